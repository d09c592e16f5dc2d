/**
 * A client of the Holdfast API for browsers. holdfast.d.ts describes it, for people and for TypeScript.
 *
 * @import * as Api from "./holdfast.d.ts"
 * @import { Holdfast as Client, Options } from "./holdfast.d.ts"
 * @typedef {Api.Attempt & {
 *   key?: string, asked?: boolean, direct?: boolean, left?: Left, expired?: Attempt, guest?: { ifExpired?: string }
 * }} Attempt
 *   `key` is that of the slot, `asked` once it was sent, `direct` without a hold, `expired` a hold to rebook.
 * @typedef {string | { slot?: Api.Wish, key?: string }} Left
 *   A hold that is to be released: its id, or what asked for it where the answer was lost.
 */

const HERE = import.meta.url;
const TRY_MILLISECONDS = 15_000;
const GIVE_UP_MILLISECONDS = 60_000;
// The same request may succeed a little later.
const TEMPORARY = /^(NO_ANSWER|RATE_LIMITED|REQUEST_TIMEOUT|OVERLOADED|DATABASE_UNAVAILABLE|INTERNAL_ERROR)$/;
// The same hold may be committed for a guest with other data.
const OF_GUEST = ["VALIDATION_FAILED", "GUEST_LIMIT_REACHED", "PAYLOAD_TOO_LARGE"];

/** @implements {Api.Refusal} */
export class Refusal extends Error {
  /** @param {Record<string, any>} problem @param {number | null} [retryAfterSeconds] */
  constructor(problem, retryAfterSeconds = null) {
    super(problem.detail ?? problem.code);
    this.name = "Refusal";
    this.problem = problem;
    this.code = problem.code;
    this.status = problem.status ?? 0;
    this.errors = problem.errors ?? [];
    this.alternatives = problem.alternatives ?? [];
    this.requestId = problem.requestId ?? null;
    this.retryAfterSeconds = retryAfterSeconds;
    this.isTemporary = TEMPORARY.test(this.code);
  }
}

/** @implements {Client} */
export class Holdfast {
  #business;
  #root;
  #save;
  #clientId;
  #endsAt = 0;
  #stopCounting = () => {};
  #attempt;

  /** @param {ConstructorParameters<typeof Client>[0]} options */
  constructor({ business, api = new URL("..", HERE), storage }) {
    this.#business = business;
    this.#root = String(api).replace(/\/*$/, "/");
    const name = `holdfast:${this.#root}`;
    const local = () => storage?.local ?? localStorage;
    // With it this browser finds its holds again.
    this.#clientId = load(local, name) ?? randomId();
    save(local, name, this.#clientId);
    const session = () => storage?.session ?? sessionStorage;
    this.#save = (/** @type {Attempt} */ attempt) => save(session, name + business, attempt);
    /** @type {Attempt} */
    this.#attempt = load(session, name + business) ?? {};
    addEventListener("pagehide", () => {
      const { slot, hold, guest } = this.#attempt;
      if (!hold || guest) return;
      navigator.sendBeacon(this.#root + this.#path(hold, "/release"));
      this.#keep({ slot, key: randomId(), left: hold });
    });
  }

  get attempt() {
    return this.#attempt.slot ? this.#attempt : null;
  }

  /** Stores the attempt: before the request that it makes is sent. @param {Attempt} attempt */
  #keep(attempt) {
    this.#attempt = attempt;
    this.#save(attempt);
  }

  /** @type {Client["catalogue"]} */
  catalogue(options) {
    return this.#call("GET", `api/v1/public/${encodeURIComponent(this.#business)}`, options);
  }

  /** @type {Client["days"]} */
  async days(wanted, options) {
    return (await this.#list("/days", wanted, options)).days;
  }

  /** @type {Client["slots"]} */
  async slots(wanted, options) {
    const slots = [];
    for (let from = wanted.from; from; ) {
      const page = await this.#list("", { ...wanted, from }, options);
      slots.push(...page.slots);
      from = page.nextFrom;
    }
    return slots;
  }

  /** @param {string} path @param {Api.Wanted & { from: string }} wanted @param {Options} [options] */
  #list(path, { moved, ...wanted }, options) {
    const query = this.#query({ ...wanted, appointmentId: moved?.appointmentId });
    const token = moved?.cancellationToken;
    return this.#call("GET", `api/booking/availability${path}?${query}`, options, { token });
  }

  /** @type {Client["ownHolds"]} */
  async ownHolds(options) {
    return (await this.#call("GET", this.#path("own"), options, { own: true })).items;
  }

  /** @type {Client["resume"]} */
  async resume(options) {
    const { slot, direct, left, guest, ticket } = this.#attempt;
    if (ticket || guest) return { appointment: await this.commit(undefined, options) };
    if (slot && !direct) return { reservation: await this.#hold(options) };
    if (left) await this.release(options);
    return {};
  }

  /** @type {Client["hold"]} */
  async hold(slot, options) {
    // A commit whose answer was lost may have booked: then this is refused.
    if (this.#attempt.guest) await this.release(options);
    this.#begin({ slot });
    return this.#hold(options);
  }

  /** Begins an attempt, unless it is that of this tab already. @param {Pick<Attempt, "slot" | "direct">} wish */
  #begin({ slot, direct }) {
    const { ticket, ...former } = this.#attempt;
    const isSame = JSON.stringify([slot, direct]) === JSON.stringify([former.slot, former.direct]);
    if (ticket || !isSame) this.#keep({ slot, direct, key: randomId(), left: this.#left() });
  }

  /** Returns the hold of the attempt, or a former one. @returns {Left | undefined} */
  #left() {
    const { slot, key, asked, hold, left } = this.#attempt;
    return left ?? hold ?? (asked ? { slot, key } : undefined);
  }

  /** @param {Attempt} attempt @param {Options} [options] @returns {Promise<Api.Reservation>} */
  #reserve({ slot, key }, options) {
    const body = { businessId: this.#business, ...slot };
    return this.#call("POST", "api/booking/reserve", options, { body, key });
  }

  /** @param {Options} [options] @returns {Promise<Api.Reservation>} */
  async #hold(options) {
    const { slot, key } = this.#attempt;
    await this.#releaseLeft(options);
    if (this.#attempt.key !== key) throw superseded();
    this.#keep({ ...this.#attempt, asked: true });
    const held = await this.#decide(() => this.#reserve({ slot, key }, options));
    if (this.#attempt.key !== key) {
      await this.#release(held.reservationId);
      throw superseded();
    }
    if (held.status === "held") {
      this.#keep({ ...this.#attempt, hold: held.reservationId });
      return this.#count(held);
    }
    // The hold of an earlier try has ended.
    this.#keep({ slot, key: randomId() });
    if (held.status === "committed") throw ended("committed");
    return this.#hold(options);
  }

  /** A former hold could be in the way of the next one. @param {Options} [options] */
  async #releaseLeft(options) {
    const { left } = this.#attempt;
    if (!left) return;
    await this.#release(left, options);
    if (this.#attempt.left === left) this.#keep({ ...this.#attempt, left: undefined });
  }

  /** Ends the attempt if its call is refused for good. @template T @param {() => Promise<T>} call */
  async #decide(call) {
    const { key } = this.#attempt;
    try {
      return await call();
    } catch (error) {
      if (error instanceof Refusal && !error.isTemporary && this.#attempt.key === key) {
        const stays = (this.#attempt.hold || this.#attempt.guest) && OF_GUEST.includes(error.code);
        if (stays) this.#keep({ ...this.#attempt, guest: undefined });
        else this.#end(error);
      }
      throw error;
    }
  }

  /** Ends the attempt. A hold that has expired can still be booked, with `rebook`. @param {Refusal} refusal */
  #end({ code }) {
    const { slot, key, hold } = this.#attempt;
    this.#keep(hold && code === "RESERVATION_EXPIRED" ? { expired: { slot, key, hold } } : {});
  }

  /** @type {Client["adopt"]} */
  adopt(held) {
    const { serviceId, slotStart, slotEnd, quantity, reservationId } = held;
    this.#keep({ slot: { serviceId, slotStart, slotEnd, quantity }, key: randomId(), hold: reservationId });
    this.#count(held);
  }

  /** @type {Client["extend"]} */
  async extend(ttlMinutes, options) {
    const { key, direct, hold } = this.#attempt;
    // A page that the browser has just restored has given it back.
    if (key && !direct && !hold) await this.#hold(options);
    const path = this.#path(this.#attempt.hold, "/extend");
    return this.#count(await this.#call("POST", path, options, { body: { ttlMinutes } }));
  }

  /** @type {Client["release"]} */
  async release(options) {
    const left = this.#left();
    if (!this.#attempt.guest) this.#keep({ left });
    const attempt = this.#attempt;
    if (left) await this.#release(left, options);
    if (this.#attempt === attempt) this.#keep({});
  }

  /** @param {Left} left @param {Options} [options] */
  async #release(left, options) {
    try {
      // By its key, a hold whose answer was lost is found.
      const hold = typeof left === "string" ? left : (await this.#reserve(left, options)).reservationId;
      await this.#call("POST", this.#path(hold, "/release"), options);
    } catch (error) {
      // It has ended, or another tab has booked it: nothing is left to give back.
      const isOver = error instanceof Refusal && !error.isTemporary;
      if (!isOver || (this.#attempt.guest && error.code === "RESERVATION_COMMITTED")) throw error;
    }
  }

  /** @type {Client["commit"]} */
  async commit(guest, { ifExpired, ...options } = {}) {
    if (ifExpired && this.#attempt.expired) this.#keep(this.#attempt.expired);
    const { slot, direct, hold, guest: last, ticket } = this.#attempt;
    if (ticket) return { ...(await this.#decide(() => this.appointment(ticket, options))), ...ticket };
    if (!slot) throw ended("not_found");
    if (direct) return this.book(slot, guest ?? last ?? {}, options);
    if (!hold) await this.#hold(options);
    if (guest) this.#keep({ ...this.#attempt, guest: { ...guest, ifExpired } });
    const body = { reservationId: this.#attempt.hold, businessId: this.#business, ...this.#attempt.guest };
    return this.#book("api/booking/commit", options, { body });
  }

  /** @type {Client["book"]} */
  async book(slot, guest, options) {
    this.#begin({ slot, direct: true });
    await this.#releaseLeft(options);
    this.#keep({ ...this.#attempt, guest });
    const body = { businessId: this.#business, ...slot, ...guest };
    return this.#book("api/bookings", options, { body, key: this.#attempt.key });
  }

  /** @param {string} path @param {Options | undefined} options @param {{ body: object, key?: string }} sent */
  async #book(path, options, sent) {
    const { slot, key } = this.#attempt;
    const booked = await this.#decide(() => this.#call("POST", path, options, sent));
    const { appointmentId, cancellationToken } = booked;
    if (this.#attempt.key === key) this.#keep({ slot, ticket: { appointmentId, cancellationToken } });
    return booked;
  }

  /** @type {Client["appointment"]} */
  appointment(ticket, options) {
    return this.#ofGuest(ticket, "", options);
  }

  /** @type {Client["cancel"]} */
  async cancel(ticket, { reason, ...options } = {}) {
    const cancelled = await this.#ofGuest(ticket, "/cancel", options, { reason });
    if (this.#attempt.ticket?.appointmentId === ticket.appointmentId) this.#keep({});
    return cancelled;
  }

  /** @type {Client["reschedule"]} */
  reschedule(ticket, slot, options) {
    return this.#ofGuest(ticket, "/reschedule", options, slot);
  }

  /** @param {Api.Ticket} ticket @param {string} action @param {Options} [options] @param {object} [body] */
  #ofGuest({ appointmentId, cancellationToken: token }, action, options, body) {
    const path = `api/booking/appointments/${appointmentId}${action}`;
    return this.#call(body ? "POST" : "GET", path, options, { body, token });
  }

  /** @type {Client["countdown"]} */
  countdown(tick, end) {
    this.#stopCounting();
    let timer = 0;
    let stopped = false;
    let skew = Date.now() - performance.now();
    const stop = () => {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", check);
      removeEventListener("pageshow", restore);
    };
    /** @param {unknown} error */
    const fail = (error) => {
      if (stopped || !(error instanceof Refusal) || error.isTemporary) return;
      stop();
      this.#end(error);
      end(error);
    };
    const check = async () => {
      const { hold, guest } = this.#attempt;
      if (document.hidden || !hold || guest) return;
      const held = await this.#call("GET", this.#path(hold)).catch((error) => error);
      if (this.#attempt.hold !== hold || this.#attempt.guest) return;
      if (held.status !== "held") return fail(held instanceof Error ? held : ended(held.status));
      this.#count(held);
      count();
    };
    /** @param {PageTransitionEvent} event */
    const restore = (event) => {
      if (event.persisted && this.#attempt.left) this.#hold().then(count, fail);
    };
    const count = () => {
      clearTimeout(timer);
      const { slot, hold, guest, ticket } = this.#attempt;
      if (stopped || !slot || ticket) return stop();
      const left = Math.max(0, this.#endsAt - performance.now());
      try {
        if (hold) tick(Math.ceil(left / 1000));
      } catch (error) {
        reportError(error);
      }
      if (hold && !left && !guest) return fail(ended("expired"));
      timer = setTimeout(count, left % 1000 || 1000);
      // Either clock may have been set, or have stood still while the computer slept: only the service knows.
      const former = skew;
      skew = Date.now() - performance.now();
      if (Math.abs(skew - former) > 2000) check();
    };
    document.addEventListener("visibilitychange", check);
    addEventListener("pageshow", restore);
    this.#stopCounting = stop;
    count();
    return stop;
  }

  /** @param {Api.Reservation} held */
  #count(held) {
    // By a clock that nobody sets.
    this.#endsAt = performance.now() + 1000 * held.expiresInSeconds;
    return held;
  }

  /** @type {Client["watch"]} */
  watch(changed) {
    /** @type {EventSource | undefined} */
    let source;
    let again = 0;
    const close = () => {
      clearTimeout(again);
      source?.close();
    };
    // A hidden tab watches nothing: over HTTP/1.1 a browser has six connections to a host, for all of its tabs.
    const open = () => {
      close();
      if (document.hidden) return;
      source = new EventSource(`${this.#root}api/booking/stream?${this.#query()}`);
      source.addEventListener("changed", (event) => changed(JSON.parse(event.data)));
      source.addEventListener("resync", () => changed(null));
      source.addEventListener("error", () => {
        // It reconnects by itself when it was cut off. When it was refused (429, 503), it is closed for good.
        if (source?.readyState === EventSource.CLOSED) again = setTimeout(reopen, 5000 + 5000 * Math.random());
      });
    };
    const reopen = () => {
      open();
      if (!document.hidden) changed(null);
    };
    document.addEventListener("visibilitychange", reopen);
    open();
    return () => {
      document.removeEventListener("visibilitychange", reopen);
      close();
    };
  }

  /** @param {string | undefined} hold @param {string} [action] */
  #path(hold, action = "") {
    return `api/booking/reservations/${hold}${action}?${this.#query()}`;
  }

  #query(wanted = {}) {
    return new URLSearchParams({ businessId: this.#business, ...given(wanted) });
  }

  /**
   * Sends a request until it is answered, for a minute at most. That is safe for every call: one that takes a slot has
   * a key, and the others have no second effect.
   *
   * @param {string} method @param {string} path @param {Options} [options]
   * @param {{ body?: object, key?: string, token?: string, own?: boolean }} [sent] @returns {Promise<any>}
   */
  async #call(method, path, { signal } = {}, { body, key, token, own = !!body } = {}) {
    const headers = given({
      "Content-Type": body && "application/json",
      "Idempotency-Key": key,
      // Without the characters that no header can have, such as those that a messenger puts into a link.
      "Guest-Token": token?.replace(/[^!-~]/g, ""),
      // From another origin, each header costs a preflight.
      "X-Client-Id": own ? this.#clientId : undefined,
    });
    const request = { method, headers, body: body && JSON.stringify(body) };
    const giveUpAt = performance.now() + GIVE_UP_MILLISECONDS;
    for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
      let refusal = new Refusal({ code: "NO_ANSWER", detail: "The booking service can't be reached." });
      try {
        const [response, answer] = await limited(TRY_MILLISECONDS, signal, async (signal) => {
          const response = await fetch(this.#root + path, { ...request, signal });
          return [response, response.status === 204 ? null : await response.json()];
        });
        if (response.ok) return answer;
        if (answer.code) refusal = new Refusal(answer, Number(response.headers.get("Retry-After")) || null);
      } catch {
        // The connection was lost, or a proxy has answered. The request may have had its effect.
        signal?.throwIfAborted();
      }
      const wait = (1000 * (refusal.retryAfterSeconds ?? 0) || pause) * (1 + Math.random() / 2);
      if (!refusal.isTemporary || performance.now() + wait > giveUpAt) throw refusal;
      await limited(wait, signal, (ended) => new Promise((resolve) => ended.addEventListener("abort", resolve)));
    }
  }
}

function superseded() {
  return new DOMException("Another attempt has begun.", "AbortError");
}

/** @param {string} how */
function ended(how) {
  return new Refusal({ code: `RESERVATION_${how.toUpperCase()}` });
}

/**
 * Runs a step, whose signal is aborted after some milliseconds, or when that of the caller is.
 *
 * @template T @param {number} time @param {AbortSignal | undefined} signal
 * @param {(ended: AbortSignal) => Promise<T>} step
 */
async function limited(time, signal, step) {
  const ending = new AbortController();
  const end = () => ending.abort();
  const timer = setTimeout(end, time);
  signal?.addEventListener("abort", end);
  try {
    signal?.throwIfAborted();
    return await step(ending.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
  }
}

/** @param {object} members */
function given(members) {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

/** @returns {string} 128 random bits; `randomUUID` needs HTTPS. */
export function randomId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Storage may be full or forbidden: then a reload begins anew.
/** @param {() => Pick<Storage, "getItem">} storage @param {string} name */
function load(storage, name) {
  try {
    return JSON.parse(storage().getItem(name) ?? "null");
  } catch {
    return null;
  }
}

/** @param {() => Pick<Storage, "setItem">} storage @param {string} name @param {unknown} value */
function save(storage, name, value) {
  try {
    storage().setItem(name, JSON.stringify(value));
  } catch {
    // As above.
  }
}
