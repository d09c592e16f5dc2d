-- Hashes the id of a business, or a slug; the last bits are the number of its partition. MD5 is the same in every version
-- of PostgreSQL, unlike hashtext(). service/database/nodes.py computes the same. A proxy has a copy of this function.
CREATE FUNCTION booking.partition(p_name text)
RETURNS integer LANGUAGE sql IMMUTABLE STRICT
AS $$ SELECT ('x' || left(md5(p_name), 8))::bit(32)::integer $$;
