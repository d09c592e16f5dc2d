-- The proxy's own functions: which partition has a business, and which partitions a call asks. `migrate` executes this
-- file in the proxy database, with the number of partitions in place of :partitions.

-- Returns the number of partitions, a power of two.
CREATE FUNCTION booking.partitions()
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT :partitions $$;

-- Returns whether two names have the same partition.
CREATE FUNCTION booking.share_partition(p_name text, p_other text)
RETURNS boolean LANGUAGE sql IMMUTABLE
AS $$ SELECT (booking.partition(p_name) # booking.partition(p_other)) & (booking.partitions() - 1) = 0 $$;

-- Returns the partitions that a call about all businesses asks: all but those in the setting holdfast.left_out, a list
-- separated by commas. PL/Proxy fails a call as a whole if one node fails, so the service leaves out the nodes that it
-- knows to be down, and says so in its answer.
CREATE FUNCTION booking.asked_partitions()
RETURNS SETOF integer LANGUAGE sql STABLE
AS $$
  SELECT n FROM generate_series(0, booking.partitions() - 1) AS n
  WHERE n <> ALL (string_to_array(coalesce(current_setting('holdfast.left_out', true), ''), ',')::integer[])
$$;

-- Asks one node for an answer.
CREATE FUNCTION booking.ask_node(p_partition integer)
RETURNS integer LANGUAGE plproxy
AS $$
  CLUSTER 'holdfast';
  RUN ON p_partition;
  SELECT 1;
$$;
