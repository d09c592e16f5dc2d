-- Look-ups of one row for each row of a statement, of which PostgreSQL makes a subquery.
--
-- In a table where several indexes begin with the business, the condition is an equality written as a range and ordered
-- by the same column. The verbs switch sorting off, so the index on that column is the only plan left. With a plain
-- equality the planner could read the whole business through another index, which it estimates as equally cheap while
-- it has no statistics of the table (sql/README.md, "Plans").

-- Returns the appointment that a reservation became: one row or none.
CREATE FUNCTION booking.appointment_of_reservation(p_business_id text, p_reservation_id uuid)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.reservation_id BETWEEN p_reservation_id AND p_reservation_id
  ORDER BY a.reservation_id
$$;

-- Returns a reservation, live or ended: one row or none. Its primary key has both columns, so no other index competes.
CREATE FUNCTION booking.reservation_by_id(p_business_id text, p_reservation_id uuid)
RETURNS SETOF booking.reservations LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.reservations r
  WHERE r.reservation_id = p_reservation_id AND r.business_id = p_business_id OFFSET 0
$$;

-- Returns a resource, archived or not: one row or none. Its table has one index only.
CREATE FUNCTION booking.resource_by_id(p_business_id text, p_resource_id text)
RETURNS SETOF booking.resources LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id OFFSET 0
$$;

-- Returns a service, archived or not: one row or none. Its table has one index only.
CREATE FUNCTION booking.service_by_id(p_business_id text, p_service_id text)
RETURNS SETOF booking.services LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id OFFSET 0
$$;

-- Returns one appointment: one row or none. idx_appointments_calendar also contains the id, as its last column, and
-- would be scanned from the first slot to the last.
CREATE FUNCTION booking.appointment_by_id(p_business_id text, p_appointment_id uuid)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.appointment_id BETWEEN p_appointment_id AND p_appointment_id
  ORDER BY a.appointment_id
$$;
