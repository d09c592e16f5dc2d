"""Rules that the schema keeps, read from PostgreSQL's catalogs."""

import re

import psycopg
import pytest

from service.database.proxying import ROUTES
from tests.database import TestDatabase

# The table that finds the business, and the ledger of migrations; all other tables belong to a business.
WITHOUT_A_BUSINESS = {"slugs", "schema_migrations"}

# Keys in which the business follows an id, because the id is a random UUID that finds its row by itself.
BY_ID = [["appointment_id", "business_id"], ["reservation_id", "business_id"]]

# All functions that the service's login may execute.
VERBS = {
    "now()",
    "execute(text[], jsonb[], timestamp with time zone)",
    "business_of_appointment(uuid)",
    "businesses_named(text[])",
    "claim_slug(text, text)",
    "claimed_slugs()",
    "release_slug(text, text)",
    "stray_slugs()",
    "public_catalogue(text)",
    "appointment(text, uuid)",
    "list_appointments(text, timestamp with time zone, timestamp with time zone, boolean, timestamp with time zone,"
    " text, text, text, text, text, timestamp with time zone, uuid, integer)",
    "audit_trail(text, uuid, integer, integer)",
    "purge(text[], interval, integer, timestamp with time zone)",
    "erase_guest(text, text, text, jsonb, integer, timestamp with time zone)",
    "due_businesses(interval)",
    "record_purge(uuid, timestamp with time zone, integer, integer, integer, integer)",
    "put_business(text, jsonb, timestamp with time zone)",
    "delete_business(text, timestamp with time zone)",
    "put_service(text, text, jsonb, timestamp with time zone)",
    "delete_service(text, text, timestamp with time zone)",
    "put_resource(text, text, jsonb, timestamp with time zone)",
    "delete_resource(text, text, timestamp with time zone)",
    "put_opening_hours(text, jsonb, timestamp with time zone)",
    "list_holds(text, timestamp with time zone, timestamp with time zone, text, text, timestamp with time zone, "
    "timestamp with time zone, uuid, integer)",
    "document(text)",
    "put_document(text, jsonb, boolean, timestamp with time zone)",
    "put_closure(text, text, jsonb, timestamp with time zone)",
    "delete_closure(text, text, timestamp with time zone)",
    "put_special_hours(text, text, jsonb, timestamp with time zone)",
    "delete_special_hours(text, text, timestamp with time zone)",
    "create_key(text, text, text, text, bytea, text, timestamp with time zone)",
    "revoke_key(text, text, timestamp with time zone)",
    "note_key_uses(text[], text[])",
    "keys(text)",
    "live_key(text, text)",
    "calendars(text)",
    "feed_span(text)",
    "calendar_feed(text, text, timestamp with time zone, timestamp with time zone, uuid, integer)",
    "rotate_calendar(text, timestamp with time zone)",
    "capacity(text, text, timestamp with time zone, timestamp with time zone)",
    "availability(text, text, timestamp with time zone, timestamp with time zone, integer, integer, integer, text,"
    " integer, uuid)",
    "available_days(text, text, date, date, integer, integer, integer, text, uuid)",
    "alternatives(text, text, timestamp with time zone, timestamp with time zone, integer, text, uuid)",
    "reaches(text)",
    "business_of_reservation(uuid)",
    "reservation(text, uuid)",
    "holds_of_client(text, text)",
    "business(text)",
    "businesses()",
    "services(text, text)",
    "resources(text, text)",
    "archived_names(text)",
    "opening_hours(text)",
    "closures(text, text)",
    "special_hours(text, text)",
    "unknown_timezones()",
    "reservation_health()",
    "invariant_violations(boolean)",
    "clock_definition()",
    "applied_migrations()",
    "hourly_counts(integer)",
    "busiest_businesses(integer, integer)",
    "purge_runs(integer)",
    "lock_waits()",
}
# Functions whose first parameter is neither a business nor a list of businesses.


def tables(database: TestDatabase) -> set[str]:
    """Returns the tables of the schema."""
    rows = database.rows("SELECT relname FROM pg_class WHERE relnamespace = 'booking'::regnamespace AND relkind = 'r'")
    return {name for (name,) in rows}


def functions(database: TestDatabase, condition: str) -> set[str]:
    """Returns the functions of the schema that meet a condition over pg_proc, with their parameter types.

    Constructors of range types are left out: they compute and read nothing.
    """
    rows = database.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p "  # noqa: S608
        f"WHERE p.pronamespace = 'booking'::regnamespace AND {condition} AND NOT EXISTS ("
        "SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')"
    )
    return {name.removeprefix("booking.").replace(",", ", ") for (name,) in rows}


def test_every_key_includes_the_business(database: TestDatabase) -> None:
    """The business comes first, or right after the id in keys for look-ups by id alone.

    No key can refer from one business to another.
    """
    keys = database.rows(
        """
        SELECT t.relname, i.relname, ARRAY(
          SELECT pg_get_indexdef(x.indexrelid, n, true) FROM generate_series(1, x.indnkeyatts) AS n ORDER BY n)
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
        WHERE t.relnamespace = 'booking'::regnamespace AND x.indisunique
        UNION ALL
        SELECT t.relname, c.conname, ARRAY(
          SELECT a.attname || CASE WHEN f.attname = a.attname THEN '' ELSE '?' END
          FROM unnest(c.conkey, c.confkey) WITH ORDINALITY AS pair (own, other, n)
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = pair.own
          JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = pair.other
          ORDER BY pair.n)
        FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
        WHERE c.connamespace = 'booking'::regnamespace AND c.contype = 'f'
        """
    )
    keys_of_businesses = [key for key in keys if key[0] not in WITHOUT_A_BUSINESS]
    assert len(keys_of_businesses) > 10
    assert [key for key in keys_of_businesses if key[2][0] != "business_id" and key[2] not in BY_ID] == []
    columns = database.rows(
        "SELECT table_name, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'booking' AND column_name = 'business_id'"
    )
    not_null = {table for table, is_nullable in columns if is_nullable == "NO"}
    assert not_null >= tables(database) - {"schema_migrations"}


def test_every_constraint_has_a_name_of_the_convention(database: TestDatabase) -> None:
    """The name is <table>_<column>_<kind>, so that migrations can refer to it."""
    rows = database.rows(
        """
        SELECT t.relname, c.conname, c.contype, ARRAY(
          SELECT a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0
            AND (a.attnum = ANY (c.conkey) OR c.conkey @> ARRAY[0::smallint]))
        FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
        WHERE c.connamespace = 'booking'::regnamespace AND c.contype <> 'n'
        UNION ALL
        SELECT t.relname, i.relname, 'u', ARRAY(
          SELECT a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY (x.indkey))
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
        WHERE t.relnamespace = 'booking'::regnamespace AND x.indisunique
          AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid AND c.contype IN ('p', 'u', 'x'))
        """
    )
    kinds = {"p": "pkey", "u": "key", "f": "fkey", "c": "check", "x": "excl"}
    assert len(rows) > 20
    for table, name, kind, columns in rows:
        named = re.fullmatch(rf"{table}_(?:(\w+?)_)?{kinds[kind]}", name)
        assert named, name
        if kind != "p":
            assert any(column.startswith(named[1]) or named[1].startswith(column) for column in columns), name


def test_the_schema_has_no_triggers_sequences_or_cascades(database: TestDatabase) -> None:
    """The effects of a call are written in its verb, and depend on its business only."""
    assert (
        database.rows(
            "SELECT tgrelid::regclass, tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE c.relnamespace = 'booking'::regnamespace AND NOT t.tgisinternal"
        )
        == []
    )
    assert database.rows("SELECT * FROM information_schema.sequences WHERE sequence_schema = 'booking'") == []
    actions = database.rows(
        "SELECT conname, confdeltype, confupdtype FROM pg_constraint "
        "WHERE connamespace = 'booking'::regnamespace AND contype = 'f'"
    )
    assert len(actions) > 3
    assert [action for action in actions if action[1:] != ("a", "a")] == []


def test_the_owner_cant_log_in_and_owns_everything(database: TestDatabase) -> None:
    """The verbs run with the rights of the owner. The ledger belongs to the role that migrates."""
    relations = database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'booking'::regnamespace AND relkind IN ('r', 'v') "
        "AND relowner::regrole::text <> 'holdfast_owner'"
    )
    assert relations == [("schema_migrations",)]
    assert functions(database, "p.proowner::regrole::text <> 'holdfast_owner'") == set()
    roles = database.rows(
        "SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname IN ('holdfast_owner', 'holdfast_service')"
    )
    assert sorted(roles) == [("holdfast_owner", False, False), ("holdfast_service", False, False)]


def test_verbs_run_as_their_owner_with_a_fixed_search_path(database: TestDatabase) -> None:
    """With pg_temp last in the search_path, a caller's tables or operators can't replace those of the schema."""
    definers = functions(database, "p.prosecdef")
    assert definers == VERBS - {"now()"}
    assert functions(database, "p.prosecdef AND NOT 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig)") == set()
    assert functions(database, "p.prosecdef AND p.proowner::regrole::text <> 'holdfast_owner'") == set()


def test_jit_is_off_for_verbs_and_steered_functions(database: TestDatabase) -> None:
    """Up to PostgreSQL 17, a plan with a disabled node has an estimated cost of 1e10, and would always be compiled."""
    has_jit_off = "coalesce('jit=off' = ANY (p.proconfig), false)"
    steers_the_planner = "EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'enable_'))"
    assert functions(database, steers_the_planner) >= {"purge(text[], interval, integer, timestamp with time zone)"}
    assert functions(database, f"(p.prosecdef OR {steers_the_planner}) AND NOT {has_jit_off}") == set()


def test_all_that_change_claims_have_the_same_planner_settings(database: TestDatabase) -> None:
    """They use generic plans: planning anew doubled the time of a short step of the purge."""
    execute, purge, erase_guest = (
        database.value("SELECT proconfig FROM pg_proc WHERE oid = %s::regproc", f"booking.{name}")
        for name in ("execute", "purge", "erase_guest")
    )
    assert set(execute) == set(purge) == set(erase_guest)
    assert "plan_cache_mode=force_generic_plan" in purge


def test_the_services_login_may_execute_the_verbs_only(database: TestDatabase) -> None:
    """The login may execute none of their helper functions, and read no view and no table."""
    assert functions(database, "has_function_privilege('holdfast_test', p.oid, 'EXECUTE')") == VERBS
    readable = database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'booking'::regnamespace AND relkind IN ('r', 'v') "
        "AND has_table_privilege('holdfast_test', oid, 'SELECT')"
    )
    assert readable == []


def test_every_granted_function_can_be_routed_by_its_business(database: TestDatabase) -> None:
    """The first parameter is a business or a list of businesses, except in functions that have a route of their own."""
    unrouted = functions(
        database,
        "has_function_privilege('holdfast_test', p.oid, 'EXECUTE') "
        "AND coalesce(p.proargnames[1], '') NOT IN ('p_business_id', 'p_business_ids')",
    )
    assert {name.partition("(")[0] for name in unrouted} == set(ROUTES)


def test_the_services_login_cant_touch_a_table(database: TestDatabase) -> None:
    """A stolen login can call the verbs, but can neither oversell a slot nor list guests."""
    changes = ("INSERT INTO {} DEFAULT VALUES", "UPDATE {} SET business_id = 'x'", "DELETE FROM {}", "TRUNCATE {}")
    statements = [
        statement.format(f"booking.{table}")
        for table in tables(database) - {"schema_migrations"}
        for statement in (*changes, "SELECT * FROM {}", "SELECT FROM {} FOR UPDATE")
    ]
    statements += [
        "SELECT FROM booking.claims",
        "SELECT FROM booking.schema_migrations",
        "DELETE FROM booking.schema_migrations",
        "CREATE TABLE booking.mine ()",
        "SET ROLE holdfast_owner",
        "SELECT booking.end_holds('{salon}', '{}', 'released', booking.now())",
        "SELECT booking.release('{salon}', '{}', booking.now())",
        "SELECT booking.claim('book', '{salon}', '{}', booking.now(), false)",
        "SELECT booking.recount('salon', 'infinity')",
    ]
    with database.connect() as connection:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_functions_that_decide_are_volatile(database: TestDatabase) -> None:
    """A stable function would use the snapshot that its caller took before the lock."""
    deciding = {
        *("execute", "release", "commit", "extend", "change", "claim", "purge", "recount"),
        *("lock_businesses", "lock_business", "now"),
        *("decide", "end_expired", "end_holds", "free_claims"),
        *("hold_granted", "book_granted", "commit_holds", "record_changes"),
        *("erase_guest", "erase_appointments"),
        *("put_service", "put_resource", "delete_resource", "check_claims", "first_violation"),
        *("put_special_hours", "affected_by_hours", "affected_appointments"),
    }
    rows = database.rows(
        "SELECT proname, provolatile FROM pg_proc WHERE pronamespace = 'booking'::regnamespace AND proname = ANY (%s)",
        list(deciding),
    )
    assert dict(rows) == dict.fromkeys(deciding, "v")
