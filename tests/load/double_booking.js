// Double booking: USERS clients reserve one slot at the same moment, and exactly CAPACITY of them get it.
//
// Set up
//   Install k6, and start the service: `make run`. It prints an ADMIN_TOKEN at its first start; setup() below
//   uses it to make a business and a service of its own.
//
// Run
//   k6 run -e ADMIN_TOKEN=… tests/load/double_booking.js                    100 users, capacity 1
//   k6 run -e ADMIN_TOKEN=… -e CAPACITY=10 tests/load/double_booking.js     100 users, capacity 10
//
//   BASE_URL     http://127.0.0.1:8000   where the service is
//   USERS        100                     how many clients
//   CAPACITY     1                       the capacity of the slot
//   BUSINESS_ID  load-test               the business
//   SERVICE_ID   double-booking          the service; setup() gives it this capacity
//   ADMIN_TOKEN                          without it nothing is set up: both must exist, with this capacity
//   DAYS_AHEAD   30                      how many days from now the slot is
//
//   Each run takes its slot, one second long, from the clock, so that there is nothing to clean up
//   before the next one.
//
// Read
//   Under THRESHOLDS, all of these have to be ticked; k6 ends with exit status 99 if one is not:
//     bookings_granted   count==CAPACITY            one success
//     bookings_refused   count==USERS - CAPACITY    ninety-nine times 409 SLOT_UNAVAILABLE
//     booking_errors     count==0                   any other answer, or none
//   More grants than the capacity are a double booking. Fewer, with refusals, are a slot that was left
//   unsold in spite of demand. http_req_duration shows how long the clients waited for their answers.
//
// The same scenario runs in Python, without k6, as a part of `make test`: tests/acceptance/test_double_booking.py.

import { check, fail, sleep } from "k6";
import http from "k6/http";
import { Counter } from "k6/metrics";

const BASE_URL = (__ENV.BASE_URL || "http://127.0.0.1:8000").replace(/\/+$/, "");
const USERS = Number(__ENV.USERS || 100);
const CAPACITY = Number(__ENV.CAPACITY || 1);
const ADMIN_TOKEN = __ENV.ADMIN_TOKEN;
const BUSINESS_ID = __ENV.BUSINESS_ID || "load-test";
const SERVICE_ID = __ENV.SERVICE_ID || "double-booking";
const DAYS_AHEAD = Number(__ENV.DAYS_AHEAD || 30);

// How long the clients wait for each other, before all fire at the same instant.
const LINE_UP_SECONDS = 2;
const DAY_MS = 24 * 60 * 60 * 1000;
const SLOT_MS = 1000;

const granted = new Counter("bookings_granted");
const refused = new Counter("bookings_refused");
const errors = new Counter("booking_errors");

export const options = {
  scenarios: {
    race: { executor: "per-vu-iterations", vus: USERS, iterations: 1, maxDuration: "60s" },
  },
  thresholds: {
    bookings_granted: [`count==${Math.min(CAPACITY, USERS)}`],
    bookings_refused: [`count==${Math.max(USERS - CAPACITY, 0)}`],
    booking_errors: ["count==0"],
  },
};

// A refusal is an expected answer: it must not count as a failed request.
http.setResponseCallback(http.expectedStatuses(200, 201, 409));

function put(path, body) {
  const answer = http.put(`${BASE_URL}/api/catalog/businesses/${BUSINESS_ID}${path}`, JSON.stringify(body), {
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  if (answer.status !== 200 && answer.status !== 201) {
    fail(`PUT ${path || "the business"}: ${answer.status} ${answer.body}`);
  }
}

// Runs once, before the race: makes the service, and chooses the slot and the instant at which all fire.
export function setup() {
  if (ADMIN_TOKEN) {
    put("", { name: "Load test", country: "DE" });
    put(`/services/${SERVICE_ID}`, {
      name: "Double booking",
      durationMinutes: 1,
      maxSimultaneousBookings: CAPACITY,
    });
  }
  const now = Date.now();
  const starts = now + DAYS_AHEAD * DAY_MS;
  return {
    slotStart: new Date(starts).toISOString(),
    slotEnd: new Date(starts + SLOT_MS).toISOString(),
    fireAt: now + LINE_UP_SECONDS * 1000,
  };
}

// Each user, once.
export default function (race) {
  http.get(`${BASE_URL}/health/live`); // opens the connection, so that the race does not measure connecting
  sleep(Math.max(race.fireAt - Date.now(), 0) / 1000);
  const answer = http.post(
    `${BASE_URL}/api/booking/reserve`,
    JSON.stringify({
      businessId: BUSINESS_ID,
      serviceId: SERVICE_ID,
      slotStart: race.slotStart,
      slotEnd: race.slotEnd,
    }),
    { headers: { "Content-Type": "application/json" } },
  );
  const isGranted = answer.status === 201;
  const isRefused = answer.status === 409 && answer.json("code") === "SLOT_UNAVAILABLE";
  granted.add(isGranted ? 1 : 0);
  refused.add(isRefused ? 1 : 0);
  errors.add(isGranted || isRefused ? 0 : 1);
  check(answer, { "granted, or refused because the slot is taken": () => isGranted || isRefused });
}
