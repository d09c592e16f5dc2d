"""sql/distribution.sql: it names every table and every function of one tenant, and Citus's rules for them hold.

There is no Citus here. Its three functions are replaced by ones that write down how they were called.
"""

import re

import pytest

from service.database.files import sql_folder
from service.database.migrations import migration_files
from tests.database import TestDatabase

# The rule of Citus for each kind of index and constraint: the tenant is part of it. Ours is stricter: it is the first.
TENANT_NOT_FIRST = """
SELECT i.indexrelid::regclass::text FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = ANY (%s::regclass[]) AND i.indisunique AND a.attname <> 'business_id'
UNION ALL
SELECT c.conname FROM pg_constraint c
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = c.confkey[1]
WHERE c.conrelid = ANY (%s::regclass[]) AND c.contype = 'f' AND (a.attname, f.attname) <> ('business_id', 'business_id')
"""

STUBS = """
CREATE TABLE public.calls (
  position integer GENERATED ALWAYS AS IDENTITY, kind text, name text, tenant text, beside text);
CREATE FUNCTION public.create_reference_table(name regclass) RETURNS void LANGUAGE sql AS
  $$ INSERT INTO public.calls (kind, name) VALUES ('reference', name::text) $$;
CREATE FUNCTION public.create_distributed_table(name regclass, tenant text, colocate_with text DEFAULT NULL)
  RETURNS void LANGUAGE sql AS
  $$ INSERT INTO public.calls (kind, name, tenant, beside) VALUES ('table', name::text, tenant, colocate_with) $$;
CREATE FUNCTION public.create_distributed_function(name regprocedure, tenant text, colocate_with text)
  RETURNS void LANGUAGE sql AS
  $$ INSERT INTO public.calls (kind, name, tenant, beside) VALUES ('function', name::text, tenant, colocate_with) $$;
"""

Call = tuple[str, str, str | None, str | None]

# They write the slugs, which are on every node.
ON_THE_COORDINATOR = {"put_business", "delete_business"}


@pytest.fixture
def calls(database: TestDatabase) -> list[Call]:
    """What the file does, call by call: kind, name, tenant, beside which table."""
    database.rows(STUBS)
    text = (sql_folder() / "distribution.sql").read_text()
    # The embedded server has no btree_gist, which the first statement asks for.
    database.rows("SET search_path = public, pg_catalog; " + text[text.index("-- Tables.") :])
    rows: list[Call] = database.rows("SELECT kind, name, tenant, beside FROM public.calls ORDER BY position")
    return rows


def test_every_table_of_the_migrations_is_distributed(calls: list[Call]) -> None:
    """One that was forgotten would stay on the coordinator, and no verb could run on a node."""
    text = "".join(path.read_text() for path in migration_files())
    tables = set(re.findall(r"^CREATE TABLE (booking\.\w+)", text, re.MULTILINE))
    assert {name for kind, name, *_ in calls if kind != "function"} == tables
    assert [name for kind, name, *_ in calls if kind == "reference"] == ["booking.slugs"]


def test_all_are_distributed_by_tenant_and_together(calls: list[Call]) -> None:
    """The rows of a business are on one node, and its functions run there."""
    distributed = [call for call in calls if call[0] != "reference"]
    assert distributed[0] == ("table", "booking.businesses", "business_id", None)
    assert {beside for *_, beside in distributed[1:]} == {"booking.businesses"}
    assert {tenant for kind, _, tenant, _ in distributed if kind == "table"} == {"business_id"}


def test_referenced_tables_come_first(database: TestDatabase, calls: list[Call]) -> None:
    """Citus refuses a table whose foreign key points at one that is not distributed yet."""
    order = [name for kind, name, *_ in calls if kind == "table"]
    references = database.rows(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
    )
    assert references
    for table, referenced in references:
        assert order.index(referenced) < order.index(table), (table, referenced)


def test_the_tenant_is_first_in_every_key(database: TestDatabase, calls: list[Call]) -> None:
    """Otherwise no node could tell by itself whether a key is taken, or a referenced row is there."""
    tables = [name for kind, name, *_ in calls if kind == "table"]
    assert database.rows(TENANT_NOT_FIRST, tables, tables) == []


def test_every_granted_function_of_one_tenant_runs_on_its_node(database: TestDatabase, calls: list[Call]) -> None:
    """Those whose first parameter is the tenant, but for the two that write a table of all nodes."""
    granted = database.rows(
        "SELECT p.proname, p.oid::regprocedure::text FROM pg_proc p "
        "WHERE p.pronamespace = 'booking'::regnamespace AND p.proargnames[1] = 'p_business_id' "
        "AND has_function_privilege('holdfast_service', p.oid, 'EXECUTE')"
    )
    expected = {signature for name, signature in granted if name not in ON_THE_COORDINATOR}
    assert {name for kind, name, *_ in calls if kind == "function"} == expected
    assert {tenant for kind, _, tenant, _ in calls if kind == "function"} == {"p_business_id"}
