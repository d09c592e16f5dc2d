/** What is looked for. Lengths are for services with a range of lengths. */
export interface Wanted {
  serviceId: string;
  quantity?: number;
  resourceId?: string;
  durationMinutes?: number;
  durationDays?: number;
  /** A booking that is to be moved: it takes no room from itself, and the slots have its length and quantity. */
  moved?: Ticket;
}

/** A slot to hold. `slotEnd` is that which was listed: so the guest gets the length that was shown, or a refusal. */
export interface Wish {
  serviceId: string;
  slotStart: string;
  slotEnd?: string;
  quantity?: number;
  resourceId?: string;
  ttlMinutes?: number;
}

/** The guest of a booking: an e-mail address or a phone number is required. */
export interface Guest {
  guestName?: string;
  guestEmail?: string;
  guestPhone?: string;
  notes?: string;
  metadata?: Record<string, unknown>;
}

export interface Slot {
  slotStart: string;
  slotEnd: string;
  available: number;
  maxQuantity: number;
  resourceIds: string[];
}

export interface Alternative {
  slotStart: string;
  slotEnd: string;
  resourceIds: string[];
}

/** The slots of a local date; 100 stands for 100 or more. */
export interface Day {
  date: string;
  slots: number;
  firstSlotStart: string | null;
}

export interface Reservation {
  reservationId: string;
  businessId: string;
  serviceId: string;
  resourceId: string | null;
  slotStart: string;
  slotEnd: string;
  quantity: number;
  status: "held" | "committed" | "released" | "expired";
  expiresAt: string;
  expiresInSeconds: number;
  ttlClamped: boolean;
  version: number;
}

/** With it a guest sees and changes a booking. The token is a secret: in the fragment of a link at most. */
export interface Ticket {
  appointmentId: string;
  cancellationToken: string;
}

export interface Appointment {
  appointmentId: string;
  businessId: string;
  serviceId: string;
  resourceId: string | null;
  slotStart: string;
  slotEnd: string;
  quantity: number;
  status: "confirmed" | "cancelled" | "completed" | "no_show";
  version: number;
  guestName: string | null;
  guestEmail: string | null;
  guestPhone: string | null;
  notes: string | null;
  metadata: Record<string, unknown>;
  source: string;
  createdAt: string;
  updatedAt: string;
  cancellableUntil: string;
  reschedulableUntil: string;
}

export interface Business {
  businessId: string;
  name: string;
  slug: string | null;
  timezone: string;
  country: string | null;
  description: string | null;
  metadata: Record<string, unknown> | null;
}

export interface Service {
  serviceId: string;
  name: string;
  durationMinutes: number | null;
  minDurationMinutes: number | null;
  maxDurationMinutes: number | null;
  durationDays: number | null;
  minDurationDays: number | null;
  maxDurationDays: number | null;
  startTimes: string[] | null;
  endTime: string | null;
  slotStepMinutes: number | null;
  startsOnGrid: boolean;
  minNoticeMinutes: number;
  maxAdvanceDays: number;
  cancellationWindowMinutes: number;
  rescheduleWindowMinutes: number;
  maxUpcomingPerGuest: number | null;
  holdTtlMinutes: number;
  resourceSharing: "exclusive" | "session";
  maxQuantity: number;
  resourceIds: string[];
  description: string | null;
  metadata: Record<string, unknown> | null;
}

export interface Resource {
  resourceId: string;
  name: string;
  kind: string;
  seats: number;
  description: string | null;
  metadata: Record<string, unknown> | null;
}

export interface Catalogue {
  business: Business;
  services: Service[];
  resources: Resource[];
}

/** The slots of these services that start from `from` up to `to` have changed. */
export interface Change {
  serviceIds: string[];
  from: string;
  to: string;
}

/** One fault of a request: translate it by its code and parameters. */
export interface Fault {
  field: string;
  code: string;
  message: string;
  parameters: Record<string, any>;
}

/** What this tab is doing. `hold` is there when a slot is held, `guest` from `commit` on, `ticket` when it is booked. */
export interface Attempt {
  slot?: Wish;
  hold?: string;
  guest?: Guest;
  ticket?: Ticket;
}

export interface Options {
  /** Ends the wait for an answer, with the reason of the signal. The request may have its effect all the same. */
  signal?: AbortSignal;
}

/** An answer that is no success. */
export class Refusal extends Error {
  constructor(problem: Record<string, any>, retryAfterSeconds?: number | null);
  /** Of the service (see `docs/errors`), or `NO_ANSWER`: nothing came back, and the request may have had its effect. */
  code: string;
  /** The HTTP status; 0 without an answer. */
  status: number;
  errors: Fault[];
  alternatives: Alternative[];
  requestId: string | null;
  retryAfterSeconds: number | null;
  /** Whether the same call may succeed a little later. It was repeated for a minute already. */
  isTemporary: boolean;
  /** All members of the problem, such as `reason` and `cancellableUntil`. */
  problem: Record<string, any>;
}

/** Returns 128 random bits, for an idempotency key or an id. */
export function randomId(): string;

/**
 * A client of the Holdfast API for the browser of a guest: one for a page. Each call throws a `Refusal`, or the reason
 * of its `signal`.
 */
export class Holdfast {
  constructor(options: {
    /** The business, by its slug or its id. */
    business: string;
    /** The root of the service; by default that from which the module was loaded. */
    api?: string | URL;
    /** In place of localStorage, for the secret of the browser, and of sessionStorage, for the attempt. */
    storage?: { local: Pick<Storage, "getItem" | "setItem">; session: Pick<Storage, "getItem" | "setItem"> };
  });

  catalogue(options?: Options): Promise<Catalogue>;
  /** Counts the slots of local dates such as `2027-01-31`, both ends included. */
  days(wanted: Wanted & { from: string; to: string }, options?: Options): Promise<Day[]>;
  /** Lists the slots that start from an instant up to another, by default up to the horizon of the service. */
  slots(wanted: Wanted & { from: string; to?: string }, options?: Options): Promise<Slot[]>;
  /** Lists the live holds of this browser. */
  ownHolds(options?: Options): Promise<Reservation[]>;

  /** The attempt of this tab, also after a reload. */
  readonly attempt: Attempt | null;
  /** Goes on with the attempt after a load: books if a commit was sent, and otherwise holds the slot again. */
  resume(options?: Options): Promise<{ appointment?: Appointment & Ticket; reservation?: Reservation }>;
  /** Holds a slot, after the former hold was released. The same slot again is the same attempt, with one hold. */
  hold(slot: Wish, options?: Options): Promise<Reservation>;
  /** Goes on with a hold of `ownHolds`. */
  adopt(held: Reservation): void;
  /** Prolongs the hold to some minutes from now. */
  extend(ttlMinutes: number, options?: Options): Promise<Reservation>;
  /**
   * Ends the attempt: gives the slot back, or forgets what was booked. `RESERVATION_COMMITTED`: a commit whose answer
   * was lost has booked; `commit()` gives the appointment.
   */
  release(options?: Options): Promise<void>;
  /** Books the slot that is held; without a guest, repeats the last commit. `rebook`: also after the hold expired. */
  commit(guest?: Guest, options?: Options & { ifExpired?: "rebook" }): Promise<Appointment & Ticket>;
  /** Books a slot in one call, without a hold. */
  book(slot: Wish, guest: Guest, options?: Options): Promise<Appointment & Ticket>;

  appointment(ticket: Ticket, options?: Options): Promise<Appointment>;
  cancel(ticket: Ticket, options?: Options & { reason?: string }): Promise<Appointment>;
  reschedule(
    ticket: Ticket,
    slot: { slotStart: string; slotEnd?: string; resourceId?: string | null },
    options?: Options,
  ): Promise<Appointment>;

  /**
   * Counts the hold down: calls `tick` now and each second, and `end` when the hold has ended, or when the page was
   * restored and the slot could not be held again. Returns a function that stops it; the next countdown stops it too.
   */
  countdown(tick: (seconds: number) => void, end: (refusal: Refusal) => void): () => void;
  /**
   * Watches the slots of the business while the tab is visible: calls `changed` with each change, and with null when
   * anything may have changed. Returns a function that stops it.
   */
  watch(changed: (change: Change | null) => void): () => void;
}
