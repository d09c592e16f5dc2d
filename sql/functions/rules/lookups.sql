-- Look-ups of one row, where more than one index begins with its business. Equality is written as a range, and sorted
-- by it: the verbs switch sorting off, and so the one plan left is the index of that column. Plain equality
-- leaves the planner the choice to read the whole business by the primary key, which it takes to be as
-- cheap while it knows nothing of the table (sql/README.md).

-- The appointment that a reservation became, if any.
CREATE FUNCTION booking.appointment_of_reservation(p_business_id text, p_reservation_id uuid)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.reservation_id BETWEEN p_reservation_id AND p_reservation_id
  ORDER BY a.reservation_id
$$;

-- One appointment, if it is there. The primary key is not the only index that has its id: the calendar's has it too, as
-- its last column, and would be read from the first day to the last.
CREATE FUNCTION booking.appointment_by_id(p_business_id text, p_appointment_id uuid)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.appointment_id BETWEEN p_appointment_id AND p_appointment_id
  ORDER BY a.appointment_id
$$;
