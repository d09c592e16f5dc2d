-- Faults of requests that show only in comparison with stored data.

-- Returns the body of the outcome validation_failed.
--
--   p_field       the member in question
--   p_code        a code of service/faults.py, where its message is
--   p_parameters  the parameters of the code; they name other members as callers know them, in camelCase
-- Returns  {field, code, parameters}
CREATE FUNCTION booking.fault(p_field text, p_code text, p_parameters jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$
  SELECT jsonb_build_object('field', p_field, 'code', p_code, 'parameters', p_parameters)
$$;

-- Returns the outcome validation_failed. Parameters as those of booking.fault.
CREATE FUNCTION booking.invalid(p_field text, p_code text, p_parameters jsonb DEFAULT '{}')
RETURNS booking.outcome LANGUAGE sql IMMUTABLE
AS $$
  SELECT (NULL, 'validation_failed', booking.fault(p_field, p_code, p_parameters))::booking.outcome
$$;
