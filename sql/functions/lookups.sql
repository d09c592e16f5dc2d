-- Look-ups of one row by something other than its primary key. Equality is written as a range, and sorted by
-- it: the verbs switch sorting off, and so the one plan left is the index of that column. Plain equality
-- leaves the planner the choice to read the whole business by the primary key, which it takes to be as
-- cheap while it knows nothing of the table (sql/README.md).

-- The reservation that an idempotency key of a business made, if any.
CREATE OR REPLACE FUNCTION booking.reservation_by_key(p_business_id text, p_idempotency_key text)
RETURNS SETOF booking.reservations
LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.reservations r
  WHERE r.business_id = p_business_id AND r.idempotency_key BETWEEN p_idempotency_key AND p_idempotency_key
  ORDER BY r.idempotency_key
$$;

-- The appointment that a reservation became, if any.
CREATE OR REPLACE FUNCTION booking.appointment_of_reservation(p_business_id text, p_reservation_id uuid)
RETURNS SETOF booking.appointments
LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.reservation_id BETWEEN p_reservation_id AND p_reservation_id
  ORDER BY a.reservation_id
$$;
