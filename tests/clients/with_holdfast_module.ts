// Books with the client for browsers, whose types are in holdfast.d.ts beside it.
import { Holdfast, Refusal, type Appointment, type Change, type Slot } from "./holdfast.js";

export async function use(): Promise<Appointment> {
  const holdfast = new Holdfast({ business: "salon-rosa", api: "https://booking.example" });
  const slots: Slot[] = await holdfast.slots({ serviceId: "haircut", from: new Date().toISOString() });
  const { slotStart, slotEnd } = slots[0]!;
  const unwatch: () => void = holdfast.watch((change: Change | null) => console.log(change?.serviceIds));
  try {
    const held = await holdfast.hold({ serviceId: "haircut", slotStart, slotEnd }, { signal: AbortSignal.timeout(1000) });
    const stop = holdfast.countdown((seconds) => console.log(seconds.toFixed()), ({ code }) => console.log(code));
    if (held.expiresInSeconds < 60) await holdfast.extend(5);
    const { appointmentId, cancellationToken } = await holdfast.commit({ guestEmail: "ada@example.com" });
    stop();
    return await holdfast.cancel({ appointmentId, cancellationToken }, { reason: "ill" });
  } catch (error) {
    if (error instanceof Refusal && error.code === "SLOT_UNAVAILABLE") console.log(error.alternatives[0]?.slotStart);
    // @ts-expect-error: a slot has a start
    await holdfast.hold({ serviceId: "haircut" });
    throw error;
  } finally {
    unwatch();
  }
}
