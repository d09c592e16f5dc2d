// Reserves, commits and cancels with the client of @hey-api/openapi-ts.
import { client } from "./hey_api/client.gen";
import { cancelAppointment, commit, getAvailability, reserve } from "./hey_api/sdk.gen";

export async function use(baseUrl: string, from: string): Promise<string[]> {
  client.setConfig({ baseUrl });
  const listed = await getAvailability({
    query: { businessId: "salon", serviceId: "cut", from, limit: 1 },
  });
  const slot = listed.data!.slots[0]!;
  const wish = { businessId: "salon", serviceId: "cut", slotStart: slot.slotStart, slotEnd: slot.slotEnd };

  const held = await reserve({ body: wish, headers: { "Idempotency-Key": crypto.randomUUID() } });
  const { data: reservation } = held;
  if (!reservation) throw new Error(held.error.detail);

  const refusal = (await reserve({ body: wish })).error!;
  // The code narrows the type: only this problem has alternatives.
  const others = refusal.code === "SLOT_UNAVAILABLE" ? refusal.alternatives.length : 0;

  const invalid = (await reserve({ body: { ...wish, quantity: 0 } })).error;
  const faults = invalid?.code === "VALIDATION_FAILED" ? invalid.errors : [];

  const committed = await commit({ body: { reservationId: reservation.reservationId, guestEmail: "ada@example.com" } });
  const appointment = committed.data!;
  // A replay for another caller has no token; here it narrows the type.
  if (!("cancellationToken" in appointment)) throw new Error("the commit was a replay");
  const cancelled = await cancelAppointment({
    path: { appointmentId: appointment.appointmentId },
    body: { cancellationToken: appointment.cancellationToken },
  });
  return [
    reservation.status,
    `${refusal.code} ${others > 0}`,
    ...faults.map((fault) => `${fault.field} ${fault.code} ${fault.parameters.min}`),
    appointment.status,
    cancelled.data!.status,
  ];
}
