"""The rules that the schema keeps to, read from PostgreSQL's own catalogs: what it is, not what the files say."""

import re

import psycopg
import pytest

from tests.database import TestDatabase

# What finds the tenant, and what was applied to the database: everything else belongs to a tenant.
NOT_OF_A_TENANT = {"slugs", "schema_migrations"}

# What the service's own login may do, and nothing else.
VERBS = {
    "now()",
    "execute(jsonb, timestamp with time zone)",
    "reserve(text, jsonb, timestamp with time zone)",
    "commit(text, jsonb, timestamp with time zone)",
    "extend(text, jsonb, timestamp with time zone)",
    "release(text, jsonb, timestamp with time zone)",
    "book(text, jsonb, timestamp with time zone)",
    "change(text, jsonb, timestamp with time zone)",
    "business_of_appointment(uuid)",
    "business_of_slug(text)",
    "appointment(text, uuid)",
    "list_appointments(text, timestamp with time zone, timestamp with time zone, text, text, timestamp with time zone,"
    " uuid, integer)",
    "audit_trail(text, uuid)",
    "purge(text, interval, integer, timestamp with time zone)",
    "due_businesses(interval)",
    "count_due(interval)",
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
    *("now", "due_businesses", "count_due", "record_purge", "businesses", "reservation_health"),
    *("invariant_violations", "clock_definition", "applied_migrations"),
    # They find the business.
    *("business_of_reservation", "business_of_appointment", "business_of_slug"),
    # Each of its batches names its business.
    "execute",
}
# The service is not granted it; the view of that name reads it.
DEFINERS_WITHOUT_GRANT = {"find_overbooked_instants()"}


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


def test_the_tenant_comes_first_in_every_key(database: TestDatabase) -> None:
    """So that a PostgreSQL that is sharded by tenant can keep each key by itself, on the tenant's shard."""
    keys = database.rows(
        """
        SELECT t.relname, i.relname, pg_get_indexdef(x.indexrelid, 1, true)
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
        WHERE t.relnamespace = 'booking'::regnamespace AND x.indisunique
        UNION ALL
        SELECT c.conrelid::regclass::text, c.conname, a.attname || CASE WHEN f.attname = a.attname THEN '' ELSE '?' END
        FROM pg_constraint c
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = c.confkey[1]
        WHERE c.connamespace = 'booking'::regnamespace AND c.contype = 'f'
        """
    )
    of_tenants = [key for key in keys if key[0] not in NOT_OF_A_TENANT]
    assert len(of_tenants) > 10
    assert [key for key in of_tenants if key[2] != "business_id"] == []
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
    assert definers - DEFINERS_WITHOUT_GRANT == VERBS - {"now()"}
    assert functions(database, "p.prosecdef AND NOT 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig)") == set()
    assert functions(database, "p.prosecdef AND p.proowner::regrole::text <> 'holdfast_owner'") == set()


def test_no_verb_is_compiled(database: TestDatabase) -> None:
    """Where the planner is told to avoid something that it can't avoid, the plan seems to cost 1e10, and PostgreSQL up
    to 17 would compile it each time that it runs."""
    has_jit_off = "coalesce('jit=off' = ANY (p.proconfig), false)"
    steers_the_planner = "EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'enable_'))"
    assert functions(database, steers_the_planner) >= {"purge(text, interval, integer, timestamp with time zone)"}
    assert functions(database, f"(p.prosecdef OR {steers_the_planner}) AND NOT {has_jit_off}") == set()


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
        "SELECT booking.end_holds('salon', '{}', 'released', booking.now())",
    ]
    with database.connect() as connection:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_functions_that_decide_are_volatile(database: TestDatabase) -> None:
    """A stable one would go on with the snapshot that its caller took before the lock."""
    deciding = {
        "execute",
        "reserve",
        "reserve_one",
        "claim_slots",
        "hold_granted",
        "book",
        "book_granted",
        "change",
        "change_one",
        "place",
        "record_change",
        "commit",
        "commit_holds",
        "rebook_round",
        "extend",
    }
    deciding |= {
        "release",
        "purge",
        "choose",
        "fits",
        "end_holds",
        "lock_business",
        "try_lock_business",
        "now",
        "note_longest",
    }
    rows = database.rows(
        "SELECT proname, provolatile FROM pg_proc WHERE pronamespace = 'booking'::regnamespace AND proname = ANY (%s)",
        list(deciding),
    )
    assert dict(rows) == dict.fromkeys(deciding, "v")
