"""The rules that the schema keeps to, read from PostgreSQL's own catalogs: what it is, not what the files say."""

import re

import psycopg
import pytest

from tests.database import TestDatabase

# What finds the tenant, and what was applied to the database: everything else belongs to a tenant.
NOT_OF_A_TENANT = {"slugs", "schema_migrations"}

# The keys that have the business after an id, which is a random uuid and so finds its row by itself.
BY_ID = [["appointment_id", "business_id"], ["reservation_id", "business_id"]]

# What the service's own login may do, and nothing else.
VERBS = {
    "now()",
    "execute(text[], jsonb[], timestamp with time zone)",
    "business_of_appointment(uuid)",
    "business_of_slug(text)",
    "appointment(text, uuid)",
    "list_appointments(text, timestamp with time zone, timestamp with time zone, text, text, timestamp with time zone,"
    " uuid, integer)",
    "audit_trail(text, uuid)",
    "purge(text[], interval, integer, timestamp with time zone)",
    "due_businesses(interval)",
    "record_purge(uuid, timestamp with time zone, integer, integer, integer)",
    "put_business(text, jsonb, timestamp with time zone)",
    "delete_business(text, timestamp with time zone)",
    "put_service(text, text, jsonb, timestamp with time zone)",
    "delete_service(text, text, timestamp with time zone)",
    "put_resource(text, text, jsonb, timestamp with time zone)",
    "delete_resource(text, text, timestamp with time zone)",
    "put_opening_hours(text, jsonb, timestamp with time zone)",
    "put_closure(text, text, timestamp with time zone, timestamp with time zone, text, text, timestamp with time zone)",
    "delete_closure(text, text, timestamp with time zone)",
    "create_key(text, text, text, text, bytea, timestamp with time zone)",
    "revoke_key(text, text, timestamp with time zone)",
    "keys(text)",
    "live_key(text, text)",
    "calendars(text)",
    "calendar_feed(text, text, interval, interval, integer)",
    "rotate_calendar(text, timestamp with time zone)",
    "capacity(text, text, timestamp with time zone, timestamp with time zone)",
    "availability(text, text, tstzrange, integer, text)",
    "alternatives(text, text, timestamp with time zone, timestamp with time zone, integer, text, uuid)",
    "business_of_reservation(uuid)",
    "reservation(text, uuid)",
    "business(text)",
    "businesses()",
    "services(text, text)",
    "resources(text, text)",
    "opening_hours(text)",
    "closures(text, text)",
    "reservation_health()",
    "invariant_violations(boolean)",
    "clock_definition()",
    "applied_migrations()",
}
# Those whose first parameter is neither a business nor a list of businesses.
NOT_OF_ONE_BUSINESS = {
    # They ask about all businesses, or about the server.
    *("now", "due_businesses", "record_purge", "businesses", "reservation_health"),
    *("invariant_violations", "clock_definition", "applied_migrations"),
    # They find the business.
    *("business_of_reservation", "business_of_appointment", "business_of_slug"),
}


def tables(database: TestDatabase) -> set[str]:
    """Those of the schema."""
    rows = database.rows("SELECT relname FROM pg_class WHERE relnamespace = 'booking'::regnamespace AND relkind = 'r'")
    return {name for (name,) in rows}


def functions(database: TestDatabase, condition: str) -> set[str]:
    """Those of the schema for which a condition over pg_proc holds, with the types of their parameters.

    Without the constructors that a range type brings along: they compute and read nothing.
    """
    rows = database.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p "  # noqa: S608
        f"WHERE p.pronamespace = 'booking'::regnamespace AND {condition} AND NOT EXISTS ("
        "SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')"
    )
    return {name.removeprefix("booking.").replace(",", ", ") for (name,) in rows}


def test_every_key_has_its_business(database: TestDatabase) -> None:
    """First, or right after the id in keys that serve the look-up by id alone: no key reaches from one business into
    another."""
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
    of_tenants = [key for key in keys if key[0] not in NOT_OF_A_TENANT]
    assert len(of_tenants) > 10
    assert [key for key in of_tenants if key[2][0] != "business_id" and key[2] not in BY_ID] == []
    columns = database.rows(
        "SELECT table_name, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'booking' AND column_name = 'business_id'"
    )
    not_null = {table for table, is_nullable in columns if is_nullable == "NO"}
    assert not_null >= tables(database) - {"schema_migrations"}


def test_every_constraint_was_named_by_a_person(database: TestDatabase) -> None:
    """As <table>_<column>_<kind>, so that a later migration can name it, and the same on every machine."""
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


def test_nothing_happens_behind_a_statements_back(database: TestDatabase) -> None:
    """No triggers, no sequences, no keys that cascade: what a call does depends on its business alone, and stands in
    the verb."""
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
    """The verbs run with its rights, and so nobody may be it. The ledger alone belongs to whoever migrates."""
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


def test_verbs_run_as_their_owner_and_look_nowhere_else(database: TestDatabase) -> None:
    """A fixed search_path with pg_temp last: or a caller's own table or operator would be taken for ours."""
    definers = functions(database, "p.prosecdef")
    assert definers == VERBS - {"now()"}
    assert functions(database, "p.prosecdef AND NOT 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig)") == set()
    assert functions(database, "p.prosecdef AND p.proowner::regrole::text <> 'holdfast_owner'") == set()


def test_no_verb_is_compiled(database: TestDatabase) -> None:
    """Where the planner is told to avoid something that it can't avoid, the plan seems to cost 1e10, and PostgreSQL up
    to 17 would compile it each time that it runs."""
    has_jit_off = "coalesce('jit=off' = ANY (p.proconfig), false)"
    steers_the_planner = "EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'enable_'))"
    assert functions(database, steers_the_planner) >= {"purge(text[], interval, integer, timestamp with time zone)"}
    assert functions(database, f"(p.prosecdef OR {steers_the_planner}) AND NOT {has_jit_off}") == set()


def test_purge_and_execute_steer_the_planner_alike(database: TestDatabase) -> None:
    """Both plan once a session: a short step of the purge took twice as long while each planned anew."""
    [(execute, purge)] = database.rows(
        "SELECT (SELECT proconfig FROM pg_proc WHERE oid = 'booking.execute'::regproc),"
        " (SELECT proconfig FROM pg_proc WHERE oid = 'booking.purge'::regproc)"
    )
    assert set(execute) == set(purge)
    assert "plan_cache_mode=force_generic_plan" in purge


def test_the_services_login_may_run_the_verbs(database: TestDatabase) -> None:
    """And nothing else: not the functions that the verbs are made of, no view and no table."""
    assert functions(database, "has_function_privilege('holdfast_test', p.oid, 'EXECUTE')") == VERBS
    readable = database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'booking'::regnamespace AND relkind IN ('r', 'v') "
        "AND has_table_privilege('holdfast_test', oid, 'SELECT')"
    )
    assert readable == []


def test_every_granted_function_can_be_routed_by_its_business(database: TestDatabase) -> None:
    """Its first parameter is a business or a list of businesses, unless it asks about all or finds the business."""
    others = functions(
        database,
        "has_function_privilege('holdfast_test', p.oid, 'EXECUTE') "
        "AND coalesce(p.proargnames[1], '') NOT IN ('p_business_id', 'p_business_ids')",
    )
    assert {name.partition("(")[0] for name in others} == NOT_OF_ONE_BUSINESS


def test_the_services_login_cant_touch_a_table(database: TestDatabase) -> None:
    """Whoever gets hold of it can do what the verbs allow: they can't sell a slot twice, and can't list guests."""
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
    """A stable one would go on with the snapshot that its caller took before the lock."""
    deciding = {
        *("execute", "release", "commit", "extend", "change", "claim", "purge", "recount"),
        *("lock_businesses", "lock_business", "now"),
        *("decide", "end_expired", "end_holds", "free_claims"),
        *("hold_granted", "book_granted", "commit_holds", "record_changes"),
    }
    rows = database.rows(
        "SELECT proname, provolatile FROM pg_proc WHERE pronamespace = 'booking'::regnamespace AND proname = ANY (%s)",
        list(deciding),
    )
    assert dict(rows) == dict.fromkeys(deciding, "v")
