"""Generates the functions of a proxy database, which routes each call to the node of its business.

A proxy holds no data. Its functions have the names and signatures of those that the service's role may call on a node,
and are written in PL/Proxy. `migrate` brings the nodes to the schema of this code first, then reads the signatures from
one of them, and creates the proxy's functions in one transaction.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn
from psycopg.rows import namedtuple_row

from service.database.failures import reason
from service.database.migrations import MigrationError, check_encoding, connect, migrate, sql_folder

# The cluster as PL/Proxy calls it, a foreign server.
_CLUSTER: Final = "holdfast"
_EVERYWHERE: Final = "RUN ON booking.asked_partitions();"
# The routes of the functions whose first parameter is not `p_business_id` or `p_business_ids`: by another parameter, to
# all nodes that are up, or None: the proxy executes a copy of the function.
ROUTES: Final = {
    "applied_migrations": _EVERYWHERE,
    "busiest_businesses": _EVERYWHERE,
    "business_of_appointment": _EVERYWHERE,
    "business_of_reservation": _EVERYWHERE,
    "businesses": _EVERYWHERE,
    "businesses_named": "SPLIT p_names; RUN ON booking.partition(p_names);",
    "claim_slug": "RUN ON booking.partition(p_slug);",
    "claimed_slugs": _EVERYWHERE,
    "clock_definition": _EVERYWHERE,
    "due_businesses": _EVERYWHERE,
    "hourly_counts": _EVERYWHERE,
    "invariant_violations": _EVERYWHERE,
    "lock_waits": _EVERYWHERE,
    "now": None,
    "purge_runs": _EVERYWHERE,
    "record_purge": _EVERYWHERE,
    "release_slug": "RUN ON booking.partition(p_slug);",
    "reservation_health": _EVERYWHERE,
    "stray_slugs": None,
    "unknown_timezones": _EVERYWHERE,
}

# The options of the proxy's connections to its nodes, unless the URL of the node has others. PL/Proxy has no time limit
# that works for a node that vanished, but TCP has. Instants are written as text in the time zone of the session. The
# service limits its statements at the proxy, which cancels them on the node; a limit of the role would end a `check`. A
# connection that the node ended while it was idle fails the next call.
_NODE_OPTIONS: Final = "-c timezone=UTC -c lock_timeout=2s -c statement_timeout=0 -c idle_session_timeout=0"
# A setting since PostgreSQL 17.
_TRANSACTION_OPTION: Final = " -c transaction_timeout=0"
_NODE_PARAMETERS: Final = {"application_name": "holdfast-proxy", "tcp_user_timeout": "3000", "keepalives_idle": "5"}

_DATABASE: Final = ("host", "hostaddr", "port", "dbname")


def migrate_proxy(proxy_url: str, node_urls: Sequence[str], service_url: str) -> list[str]:
    """Migrates the nodes, in the order of their partitions, and generates the functions of the proxy.

    `proxy_url` is that of a superuser, because only one may create functions in PL/Proxy. The proxy logs in to its
    nodes with the user and the password of `service_url`. Returns the names of what was applied. Raises
    `MigrationError`.
    """
    _check_urls(proxy_url, node_urls, service_url)
    _check_proxy(proxy_url)
    applied = []
    for number, url in enumerate(node_urls):
        try:
            applied += [f"partition {number}: {name}" for name in migrate(url)]
        except MigrationError as error:
            raise MigrationError(f"Partition {number}: {error}") from error
    try:
        partitions = {f"p{number}": _checked(url, number, len(node_urls)) for number, url in enumerate(node_urls)}
        with psycopg.connect(node_urls[0], row_factory=namedtuple_row) as node:
            text = _definitions(node, len(node_urls))
        with connect(proxy_url) as proxy, proxy.transaction():
            if _generate(proxy, text, partitions, service_url):
                applied.append("proxy")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as error:
        raise MigrationError(
            f"The proxy could not be set up ({error.diag.message_primary}): the first URL of MIGRATION_DATABASE_URL "
            "must be that of a superuser, on a server with PL/Proxy."
        ) from error
    except psycopg.Error as error:
        raise MigrationError(f"The proxy could not be set up: {reason(error)}") from error
    return applied


def _check_urls(proxy_url: str, node_urls: Sequence[str], service_url: str) -> None:
    """Raises `MigrationError` for nodes among which PL/Proxy can't spread the businesses, and for a service that would
    keep all of them on one node."""
    if len(node_urls) & (len(node_urls) - 1):
        raise MigrationError(
            f"MIGRATION_DATABASE_URL names a proxy and {len(node_urls)} partitions: that must be a power of two."
        )
    nodes = [_database(url) for url in node_urls]
    if len({_database(proxy_url), *nodes}) <= len(nodes):
        raise MigrationError("MIGRATION_DATABASE_URL names a database twice.")
    if _database(service_url) in nodes:
        raise MigrationError("DATABASE_URL names a partition: it has to name the proxy.")


def _database(url: str) -> tuple[object, ...]:
    """Returns where a database is, as libpq finds it: also in a service file or the environment."""
    connection = PGconn.connect_start(url.encode())
    found = {option.keyword.decode(): option.val for option in connection.info}
    connection.finish()
    return tuple(map(found.get, _DATABASE))


def _check_proxy(url: str) -> None:
    """Raises `MigrationError` for a database with data, before its functions are replaced by those of a proxy, and for
    one in another encoding than UTF8."""
    with connect(url) as proxy:
        if proxy.execute("SELECT to_regclass('booking.businesses')").fetchall() != [(None,)]:
            raise MigrationError(
                "The first URL of MIGRATION_DATABASE_URL must name the database of the proxy, which has no tables. "
                "Those of the partitions follow, in their order."
            )
        check_encoding(proxy)


def _checked(url: str, partition: int, partitions: int) -> str:
    """Returns where the proxy connects to for a partition: the parameters of a URL without the login that migrates.

    Raises `MigrationError` for a node that has a business of another partition: the proxy would not find it.
    """
    query = _text("proxy/misplaced.sql").encode()
    with psycopg.connect(url) as node:
        for (business_id,) in node.execute(query, {"partitions": partitions, "partition": partition}).fetchall():
            raise MigrationError(
                f"Partition {partition} of {partitions} has the business {business_id}, which belongs to another one: "
                "was the order or the number of the partitions changed?"
            )
        given = {name: value for name, value in conninfo_to_dict(url).items() if name not in ("user", "password")}
        options = _NODE_OPTIONS + (_TRANSACTION_OPTION if node.info.server_version >= 170000 else "")
        options = f"{options} {given.pop('options', '')}".strip()
        return make_conninfo("", **{**_NODE_PARAMETERS, **given, "options": options})


def _definitions(node: psycopg.Connection[Any], partitions: int) -> str:
    """Returns the statements that create the proxy's functions."""
    functions = node.execute(_text("proxy/signatures.sql").encode()).fetchall()
    merged = _text("proxy/merged.sql")
    types = {function.result_type: function.attributes for function in functions if function.result_type}
    return "\n".join(
        [
            *(f"CREATE TYPE {name} AS ({attributes});" for name, attributes in types.items()),
            _text("functions/rules/partition.sql"),
            _text("proxy/partitions.sql").replace(":partitions", str(partitions)),
            *(_function(function, f"CREATE FUNCTION booking.{function.name}(" in merged) for function in functions),
            merged,
            *(f"GRANT EXECUTE ON FUNCTION booking.{one.name}({one.inputs}) TO holdfast_service;" for one in functions),
            _text("proxy/owner.sql"),
        ]
    )


def _text(name: str) -> str:
    return (sql_folder() / name).read_text(encoding="utf-8")


def _function(function: Any, is_merged: bool) -> str:
    """Returns the statement that creates a function in PL/Proxy: under a name of its own if its rows are merged."""
    route = _route(function)
    if route is None:
        return f"{function.definition};"
    name, arguments, result, target = function.name, function.arguments, function.result, ""
    if is_merged:
        name, arguments, result = f"{name}_of_nodes", function.inputs, function.rows
        target = f" TARGET booking.{function.name};"
    return (
        f"CREATE FUNCTION booking.{name}({arguments}) RETURNS {result} LANGUAGE plproxy\n"
        f"AS $$ CLUSTER '{_CLUSTER}'; {route}{target} $$;"
    )


def _route(function: Any) -> str | None:
    """Returns the statements of PL/Proxy that choose the partitions of a call; None if the proxy executes it."""
    if function.name in ROUTES:
        return ROUTES[function.name]
    match function.names[:1]:
        case ["p_business_id"]:
            return "RUN ON booking.partition(p_business_id);"
        case ["p_business_ids"]:
            arrays = (name for name, kind in zip(function.names, function.types, strict=True) if kind.endswith("[]"))
            return f"SPLIT {', '.join(arrays)}; RUN ON booking.partition(p_business_ids);"
    raise MigrationError(f"booking.{function.name} has no route: add it to ROUTES in service/database/proxying.py")


def _generate(proxy: psycopg.Connection, text: str, partitions: dict[str, str], service_url: str) -> bool:
    """Creates what the proxy lacks, in one transaction; returns whether it lacked anything."""
    proxy.execute(_text("proxy/setup.sql").encode())
    # Asked of libpq, because they may be in a service file, a password file or the environment.
    service = PGconn.connect_start(service_url.encode())
    login = {"user": service.user.decode(), "password": service.password.decode()}
    service.finish()
    changed = [
        _set_options(proxy, sql.SQL("SERVER holdfast"), _SERVER_OPTIONS, partitions),
        _set_options(proxy, sql.SQL("USER MAPPING FOR holdfast_owner SERVER holdfast"), _LOGIN_OPTIONS, login),
        _replace_functions(proxy, text),
    ]
    return any(changed)


_SERVER_OPTIONS: Final = "SELECT unnest(srvoptions) FROM pg_foreign_server WHERE srvname = 'holdfast'"
_LOGIN_OPTIONS: Final = "SELECT unnest(umoptions) FROM pg_user_mappings WHERE srvname = 'holdfast'"


def _set_options(proxy: psycopg.Connection, subject: sql.SQL, query: str, wanted: dict[str, str]) -> bool:
    """Makes the options of an object equal to the wanted ones; returns whether any differed."""
    present = dict(option.split("=", 1) for (option,) in proxy.execute(query.encode()).fetchall())
    if present == wanted:
        return False
    options = [sql.SQL("DROP {}").format(sql.Identifier(name)) for name in present.keys() - wanted.keys()]
    options += [
        sql.SQL(f"{'SET' if name in present else 'ADD'} {{}} {{}}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in wanted.items()
    ]
    proxy.execute(sql.SQL("ALTER {} OPTIONS ({})").format(subject, sql.SQL(", ").join(options)))
    return True


def _replace_functions(proxy: psycopg.Connection, text: str) -> bool:
    """Replaces the functions if they differ from those that were generated last; returns whether they did."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    [(known,)] = proxy.execute("SELECT obj_description('booking'::regnamespace)").fetchall()
    if known == digest:
        return False
    proxy.execute(_text("drop_definitions.sql").encode())
    for (name,) in proxy.execute(
        "SELECT oid::regtype::text FROM pg_type WHERE typnamespace = 'booking'::regnamespace AND typtype = 'c'"
    ).fetchall():
        proxy.execute(sql.SQL("DROP TYPE {}").format(sql.SQL(name)))
    proxy.execute("SET LOCAL check_function_bodies = off")
    proxy.execute(text.encode())
    proxy.execute(sql.SQL("COMMENT ON SCHEMA booking IS {}").format(sql.Literal(digest)))
    return True
