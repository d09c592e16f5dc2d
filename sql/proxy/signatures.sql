-- Reads, on a node, the functions that the service may call: `migrate` generates those of the proxy from them.
--
--   arguments, result  as CREATE FUNCTION takes them
--   inputs, rows       the same of a function that returns the rows of several nodes
--   names, types       of the input parameters
--   result_type        the composite type of the schema that the function returns, with its attributes
SELECT
  p.proname AS name,
  pg_get_function_arguments(p.oid) AS arguments,
  pg_get_function_result(p.oid) AS result,
  (SELECT coalesce(string_agg(quote_ident(p.proargnames[n]) || ' ' || format_type(p.proargtypes[n - 1], NULL), ', ' ORDER BY n), '')
   FROM generate_series(1, p.pronargs) AS n) AS inputs,
  coalesce('TABLE(' || columns.list || ')', 'SETOF ' || format_type(p.prorettype, NULL)) AS rows,
  ARRAY(SELECT coalesce(p.proargnames[n], '') FROM generate_series(1, p.pronargs) AS n) AS names,
  ARRAY(SELECT format_type(type, NULL) FROM unnest(p.proargtypes::oid[]) AS type) AS types,
  composite.name AS result_type,
  composite.attributes AS attributes,
  pg_get_functiondef(p.oid) AS definition
FROM pg_proc p
CROSS JOIN LATERAL (
  SELECT string_agg(quote_ident(p.proargnames[n]) || ' ' || format_type(p.proallargtypes[n], NULL), ', ' ORDER BY n) AS list
  FROM generate_subscripts(p.proargmodes, 1) AS n WHERE p.proargmodes[n] IN ('o', 't')
) AS columns
LEFT JOIN LATERAL (
  SELECT format_type(c.reltype, NULL) AS name, (
    SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS attributes
  FROM pg_class c WHERE c.reltype = p.prorettype AND c.relnamespace = p.pronamespace
) AS composite ON true
WHERE p.pronamespace = 'booking'::regnamespace
  AND EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 'holdfast_service'::regrole)
ORDER BY p.proname
