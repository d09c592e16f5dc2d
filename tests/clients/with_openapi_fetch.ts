// Reserves, commits and cancels with the client of openapi-typescript and openapi-fetch.
import createClient from "openapi-fetch";
import type { paths } from "./openapi_typescript";

export async function use(baseUrl: string, from: string): Promise<string[]> {
  const client = createClient<paths>({ baseUrl });
  const listed = await client.GET("/api/booking/availability", {
    params: { query: { businessId: "salon", serviceId: "cut", from, limit: 1 } },
  });
  const slot = listed.data!.slots[0]!;
  const wish = { businessId: "salon", serviceId: "cut", slotStart: slot.slotStart, slotEnd: slot.slotEnd };

  const held = await client.POST("/api/booking/reserve", {
    body: wish,
    params: { header: { "Idempotency-Key": crypto.randomUUID() } },
  });
  const { data: reservation } = held;
  if (!reservation) throw new Error(held.error.detail);

  const refused = await client.POST("/api/booking/reserve", { body: wish });
  const refusal = refused.error!;
  // The code narrows the type: only this problem has alternatives.
  const others = refusal.code === "SLOT_UNAVAILABLE" ? refusal.alternatives.length : 0;

  const invalid = await client.POST("/api/booking/reserve", { body: { ...wish, quantity: 0 } });
  const faults = invalid.error?.code === "VALIDATION_FAILED" ? invalid.error.errors : [];

  const committed = await client.POST("/api/booking/commit", {
    body: { reservationId: reservation.reservationId, guestEmail: "ada@example.com" },
  });
  const appointment = committed.data!;
  // A replay for another caller has no token; here it narrows the type.
  if (!("cancellationToken" in appointment)) throw new Error("the commit was a replay");
  const cancelled = await client.POST("/api/booking/appointments/{appointmentId}/cancel", {
    params: { path: { appointmentId: appointment.appointmentId } },
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
