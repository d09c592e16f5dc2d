// Booking from a widget: USERS users send the form for one slot at the same moment, and exactly one gets it.
//
// Set up
//   Install k6, and start the service: `make run`. It prints an ADMIN_TOKEN at its first start; setup() below
//   uses it to make a business with a slug, a member of staff and a service of its own.
//
// Run
//   k6 run -e ADMIN_TOKEN=… tests/load/widget_booking.js
//
//   BASE_URL     http://127.0.0.1:8000   where the service is
//   USERS        100                     how many users
//   BUSINESS_ID  load-test-widget        the business
//   SLUG         load-test-widget        the public name that the widget uses for the business
//   SERVICE_ID   haircut                 the service
//   STAFF_ID     rosa                    the member of staff whom all users choose
//   ADMIN_TOKEN                          without it nothing is set up: all of these must exist
//   DAYS_AHEAD   30                      how many days from now the slot is
//
//   Each run takes its slot, one minute long, from the clock: start it again after a minute, or with
//   another DAYS_AHEAD, and there is nothing to clean up.
//
// Read
//   Under THRESHOLDS, all of these have to be ticked; k6 ends with exit status 99 if one is not:
//     bookings_granted   count==1           one 201
//     bookings_refused   count==USERS - 1   ninety-nine times 400 with error.code TIME_CONFLICT, and alternatives
//     booking_errors     count==0           any other answer, or none
//   More than one grant is a double booking; none, with refusals, is a slot that was left unsold in spite of
//   demand. http_req_duration shows how long the users waited for their answers.
//
// The same scenario runs in Python, without k6, as a part of `make test`: tests/acceptance/test_widget_booking.py.

import { check, fail, sleep } from "k6";
import http from "k6/http";
import { Counter } from "k6/metrics";

const BASE_URL = (__ENV.BASE_URL || "http://127.0.0.1:8000").replace(/\/+$/, "");
const USERS = Number(__ENV.USERS || 100);
const ADMIN_TOKEN = __ENV.ADMIN_TOKEN;
const BUSINESS_ID = __ENV.BUSINESS_ID || "load-test-widget";
const SLUG = __ENV.SLUG || "load-test-widget";
const SERVICE_ID = __ENV.SERVICE_ID || "haircut";
const STAFF_ID = __ENV.STAFF_ID || "rosa";
const DAYS_AHEAD = Number(__ENV.DAYS_AHEAD || 30);

// How long the users wait for each other, before all fire at the same instant.
const LINE_UP_SECONDS = 2;
const MINUTE_MS = 60 * 1000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const granted = new Counter("bookings_granted");
const refused = new Counter("bookings_refused");
const errors = new Counter("booking_errors");

export const options = {
  scenarios: {
    race: { executor: "per-vu-iterations", vus: USERS, iterations: 1, maxDuration: "60s" },
  },
  thresholds: {
    bookings_granted: ["count==1"],
    bookings_refused: [`count==${USERS - 1}`],
    booking_errors: ["count==0"],
  },
};

// A refusal is an expected answer: it must not count as a failed request.
http.setResponseCallback(http.expectedStatuses(200, 201, 400));

function put(path, body) {
  const answer = http.put(`${BASE_URL}/api/catalog/businesses/${BUSINESS_ID}${path}`, JSON.stringify(body), {
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  if (answer.status !== 200 && answer.status !== 201) {
    fail(`PUT ${path || "the business"}: ${answer.status} ${answer.body}`);
  }
}

// Runs once, before the race: makes the business, staff and service, and chooses the slot and the instant at which all fire.
export function setup() {
  if (ADMIN_TOKEN) {
    put("", { name: "Load test of the widget", slug: SLUG, country: "DE" });
    put(`/resources/${STAFF_ID}`, { name: STAFF_ID, kind: "staff" });
    put(`/services/${SERVICE_ID}`, { name: "Haircut", durationMinutes: 1, slotStepMinutes: 1, resourceIds: [STAFF_ID] });
  }
  const now = Date.now();
  const starts = Math.floor((now + DAYS_AHEAD * DAY_MS) / MINUTE_MS) * MINUTE_MS;
  return { startTime: new Date(starts).toISOString(), fireAt: now + LINE_UP_SECONDS * 1000 };
}

// Each user, once.
export default function (race) {
  http.get(`${BASE_URL}/health/live`); // opens the connection, so that the race does not measure connecting
  sleep(Math.max(race.fireAt - Date.now(), 0) / 1000);
  const answer = http.post(
    `${BASE_URL}/api/v1/public/${SLUG}/book`,
    JSON.stringify({
      serviceId: SERVICE_ID,
      staffId: STAFF_ID,
      startTime: race.startTime,
      firstName: "User",
      lastName: String(__VU),
      email: `user${__VU}@example.com`,
    }),
    { headers: { "Content-Type": "application/json" } },
  );
  const isGranted = answer.status === 201 && answer.json("success") === true;
  const isRefused =
    answer.status === 400 && answer.json("error.code") === "TIME_CONFLICT" && answer.json("alternatives.#") > 0;
  granted.add(isGranted ? 1 : 0);
  refused.add(isRefused ? 1 : 0);
  errors.add(isGranted || isRefused ? 0 : 1);
  check(answer, { "granted, or refused with alternatives": () => isGranted || isRefused });
}
