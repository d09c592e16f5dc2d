-- Look-ups of one row, where more than one index begins with its business. Equality is written as a range, and sorted by
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

-- One appointment, if it is there. The primary key is not the only index that has its id: the calendar's has it too, as
-- its last column, and would be read from the first day to the last.
CREATE OR REPLACE FUNCTION booking.appointment_by_id(p_business_id text, p_appointment_id uuid)
RETURNS SETOF booking.appointments
LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.appointment_id BETWEEN p_appointment_id AND p_appointment_id
  ORDER BY a.appointment_id
$$;

-- The change of an appointment that an operation made, if any.
CREATE OR REPLACE FUNCTION booking.audit_of_operation(p_business_id text, p_operation_id uuid)
RETURNS SETOF booking.audit_logs
LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.audit_logs l
  WHERE l.business_id = p_business_id AND l.audit_id BETWEEN p_operation_id AND p_operation_id
  ORDER BY l.audit_id
$$;

-- The appointment that an idempotency key of a business made by manual or one-call booking, if any.
CREATE OR REPLACE FUNCTION booking.appointment_by_key(p_business_id text, p_idempotency_key text)
RETURNS SETOF booking.appointments
LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.idempotency_key BETWEEN p_idempotency_key AND p_idempotency_key
  ORDER BY a.idempotency_key
$$;
