-- E-mail addresses of guests.

-- Returns an address in the form in which it is compared with others: without regard to the case of its letters, and
-- alike in the locales of all databases but C, whose lower() leaves the letters beyond ASCII as they are. By itself
-- lower() makes an i of İ, or an i with a dot, or in Turkish an ı of I; and it leaves ς, the σ at the end of a word, a
-- letter of its own, although both have the capital Σ.
--
-- A single expression, so that PostgreSQL inlines it: it is that of idx_appointments_guest_email.
CREATE FUNCTION booking.folded_email(p_email text)
RETURNS text LANGUAGE sql IMMUTABLE
AS $$ SELECT translate(lower(translate(p_email, 'İI', 'ii')), 'ς', 'σ') $$;
