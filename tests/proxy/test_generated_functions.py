"""The functions of the proxy: none is missing, each has its route, and the rights are those of a node."""

import re
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.database.migrations import MigrationError, named_queries
from service.database.proxying import ROUTES, migrate_proxy
from tests.database import LOGIN, PASSWORD
from tests.proxy.installation import Installation, partition_of
from tests.proxy.servers import Server
from tests.serving import SECRETS, error_of, run_command

# What the service may call, with the results: these texts are the same in all versions of PostgreSQL.
SIGNATURES = """
SELECT p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid) FROM pg_proc p
WHERE p.pronamespace = 'booking'::regnamespace
  AND EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 'holdfast_service'::regrole)
ORDER BY 1
"""


def test_the_proxy_has_every_function_that_the_service_may_call(servers: Installation) -> None:
    """Names, parameters, defaults and results are those of a node. Only the proxy can ask a certain node."""
    on_proxy = servers.rows(servers.proxy, SIGNATURES)
    on_node = servers.rows(servers.partitions[0], SIGNATURES)
    assert [row for row in on_proxy if row[0] != "ask_node"] == on_node
    called = {name for query in named_queries().values() for name in re.findall(rb"booking\.(\w+)\(", query)}
    assert {name.decode() for name in called} <= {name for name, *_ in on_proxy}
    assert set(ROUTES) <= {name for name, *_ in on_node}


def test_a_function_without_a_route_is_refused(servers: Installation) -> None:
    """A new function whose first parameter is no business needs an entry, and the migration says where."""
    node = servers.partitions[0]
    node.execute("CREATE FUNCTION booking.novel(p_day date) RETURNS void LANGUAGE sql AS ''", "holdfast")
    node.execute("GRANT EXECUTE ON FUNCTION booking.novel TO holdfast_service", "holdfast")
    try:
        with pytest.raises(MigrationError, match=r"booking\.novel has no route"):
            servers.migrate()
    finally:
        node.execute("DROP FUNCTION booking.novel", "holdfast")


def test_a_second_migration_changes_nothing(servers: Installation) -> None:
    """The functions keep their identity, so that no plan of a running service becomes invalid."""
    oids = servers.rows(servers.proxy, "SELECT oid FROM pg_proc WHERE pronamespace = 'booking'::regnamespace")
    assert servers.migrate() == []
    assert oids == servers.rows(servers.proxy, "SELECT oid FROM pg_proc WHERE pronamespace = 'booking'::regnamespace")


def options(servers: Installation) -> dict[str, str]:
    """Returns the parameters of the proxy's connections, by partition."""
    query = "SELECT unnest(srvoptions) FROM pg_foreign_server WHERE srvname = 'holdfast'"
    return dict(option.split("=", 1) for (option,) in servers.rows(servers.proxy, query))


def test_the_options_of_a_url_are_those_of_the_proxys_connections(servers: Installation) -> None:
    """They have precedence, and the login that migrates is no part of them. Partitions that are no more are dropped."""
    before = options(servers)
    try:
        servers.proxy.execute("ALTER SERVER holdfast OPTIONS (ADD p2 'dbname=gone', ADD p3 'dbname=gone')", "holdfast")
        proxy, first, second = servers.migration_urls
        own = make_conninfo(first, application_name="mine", options="-c work_mem=8MB")
        assert migrate_proxy(proxy, [own, second], servers.url) == ["proxy"]
        after = options(servers)
        assert after.keys() == {"p0", "p1"}
        assert after["p1"] == before["p1"]
        given = conninfo_to_dict(after["p0"])
        assert (given["application_name"], given["tcp_user_timeout"]) == ("mine", "3000")
        assert str(given["options"]).endswith("-c transaction_timeout=0 -c work_mem=8MB")
        assert given.keys().isdisjoint({"user", "password"})
        assert conninfo_to_dict(own)["user"]
    finally:
        servers.migrate()
    assert options(servers) == before


def test_the_login_of_the_proxy_may_be_elsewhere_than_in_the_url(
    servers: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a service file, as the user and the password of the service."""
    (tmp_path / "services").write_text(f"[holdfast]\nuser={LOGIN}\npassword={PASSWORD}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    proxy, *nodes = servers.migration_urls
    assert migrate_proxy(proxy, nodes, "postgresql://127.0.0.1/holdfast?service=holdfast") == []


def test_a_node_ends_no_idle_connection_of_the_proxy(servers: Installation) -> None:
    """Else the first call after a pause fails, with an unknown outcome."""
    node = servers.partitions[0]
    node.execute(f"ALTER ROLE {LOGIN} SET idle_session_timeout = '50ms'")
    try:
        with psycopg.connect(servers.url, autocommit=True) as connection:
            for _ in range(2):
                assert connection.execute("SELECT booking.ask_node(0)").fetchall() == [(1,)]
                time.sleep(0.5)
    finally:
        node.execute(f"ALTER ROLE {LOGIN} RESET idle_session_timeout")


def test_the_services_role_can_neither_read_the_password_nor_use_the_nodes(servers: Installation) -> None:
    """It may call the functions, and nothing that they are made of."""
    with psycopg.connect(servers.url, autocommit=True) as connection:
        assert connection.execute("SELECT umoptions FROM pg_user_mappings").fetchall() == [(None,)]
        for statement in (
            "SELECT * FROM booking.businesses_of_nodes()",
            "SELECT booking.settle_slugs('salon', 'rosa')",
            "CREATE FUNCTION mine() RETURNS integer LANGUAGE plproxy AS $$ CLUSTER 'holdfast'; SELECT 1; $$",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_functions_with_the_rights_of_their_owner_have_a_fixed_search_path(servers: Installation) -> None:
    """As on a node: with the path of the caller, objects of the caller could stand in for theirs."""
    query = (
        "SELECT DISTINCT option FROM pg_proc LEFT JOIN unnest(proconfig) AS option ON option LIKE 'search_path=%%' "
        "WHERE pronamespace = 'booking'::regnamespace AND prosecdef"
    )
    assert servers.rows(servers.proxy, query) == [("search_path=pg_catalog, pg_temp",)]


def test_a_business_is_on_the_node_of_its_hash(servers: Installation) -> None:
    """The hash is computed from MD5, the same in SQL and in Python, for any id."""
    ids = ["a", "Z9_.:-", "x" * 64, *(f"business-{number}" for number in range(200))]
    hashed = servers.rows(servers.proxy, "SELECT id, booking.partition(id) & 1023 FROM unnest(%s::text[]) AS id", ids)
    assert dict(hashed) == {name: partition_of(name, 1024) for name in ids}


def test_nodes_write_instants_in_utc(servers: Installation) -> None:
    """As a single server does for the service; these nodes have another time zone by themselves."""
    with psycopg.connect(servers.url, autocommit=True) as connection:
        settings = '{"name": "a", "timezone": "Pacific/Apia"}'
        made = "SELECT body ->> 'created_at' FROM booking.put_business(%s, %s, 'infinity')"
        [(written,)] = connection.execute(made, [servers.business(1), settings]).fetchall()
    assert written.endswith("+00:00")


def test_a_list_of_partitions_that_cannot_be_is_refused(servers: Installation) -> None:
    """Three partitions, one twice, another order, a node in place of the proxy: nothing changes, no password is
    shown."""
    proxy, north, south = servers.migration_urls
    with psycopg.connect(servers.url, autocommit=True) as connection:
        settings = '{"name": "a", "timezone": "UTC"}'
        connection.execute("SELECT booking.put_business(%s, %s, 'infinity')", [servers.business(0), settings])
    for urls, message in (
        ([proxy, north, south, proxy], "3 partitions: that must be a power of two"),
        ([proxy, north, north], "names a database twice"),
        ([proxy, south, north], "which belongs to another one: was the order or the number of the partitions changed?"),
        ([north, south], "must name the database of the proxy"),
        ([proxy, proxy], "names a database twice"),
    ):
        first, *nodes = urls
        with pytest.raises(MigrationError) as raised:
            migrate_proxy(first, nodes, servers.url)
        assert message in str(raised.value)
        assert "superuser" not in str(raised.value).replace("that of a superuser", "")
    with pytest.raises(MigrationError, match="DATABASE_URL names a partition: it has to name the proxy"):
        migrate_proxy(proxy, [north, south], servers.partitions[1].url("holdfast", f"{LOGIN}:{PASSWORD}"))
    assert servers.migrate() == []


def test_the_command_takes_a_list_of_urls(servers: Installation) -> None:
    """Separated by spaces. An error of the list is one line without a password."""
    urls = servers.migration_urls
    ended = run_command("migrate", DATABASE_URL=servers.url, MIGRATION_DATABASE_URL=" ".join(urls))
    assert (ended.returncode, ended.stdout) == (0, "nothing to do\n"), ended.stderr
    line = error_of("migrate", DATABASE_URL=servers.url, MIGRATION_DATABASE_URL=" ".join([*urls, urls[1]]))
    assert line == "Error: MIGRATION_DATABASE_URL names a proxy and 3 partitions: that must be a power of two."


def test_a_proxy_is_compared_with_the_code_and_not_migrated_by_itself(servers: Installation) -> None:
    """`serve` and `migrate` with the URL of the proxy alone say what to do if a partition lacks migrations."""
    ended = run_command("migrate", DATABASE_URL=servers.url)
    assert (ended.returncode, ended.stdout) == (0, "nothing to do\n"), ended.stderr
    node = servers.partitions[0]
    node.execute("UPDATE booking.schema_migrations SET filename = 'x' WHERE filename = 'definitions'", "holdfast")
    try:
        line = error_of("migrate", DATABASE_URL=servers.url)
        assert "A partition of this proxy lacks migrations of this version" in line
    finally:
        node.execute("UPDATE booking.schema_migrations SET filename = 'definitions' WHERE filename = 'x'", "holdfast")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_proxy_in_another_encoding_is_refused(servers: Installation, encoding: str) -> None:
    """The letters of the nodes pass through it."""
    servers.proxy.execute(f"CREATE DATABASE other TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    try:
        with pytest.raises(MigrationError, match=f"has the encoding {encoding}, and Holdfast needs UTF8"):
            migrate_proxy(servers.proxy.url("other"), servers.migration_urls[1:], servers.url)
    finally:
        servers.proxy.execute("DROP DATABASE other")


def test_a_proxy_without_functions_is_named_the_command(servers: Installation) -> None:
    """Before its first migration it is a database like any other, of a version that is allowed to a proxy alone."""
    servers.proxy.execute("CREATE DATABASE fresh")
    try:
        url = servers.proxy.url("fresh", f"{LOGIN}:{PASSWORD}")
        for command in ("serve", "migrate"):
            line = error_of(command, DATABASE_URL=url, **SECRETS)
            assert "If this is a proxy, which may be older, it has no functions yet: run `python -m service" in line
    finally:
        servers.proxy.execute("DROP DATABASE fresh")


def test_a_server_without_plproxy_is_no_proxy(servers: Installation) -> None:
    """The message names what is missing."""
    server: Server = servers.partitions[1]
    server.execute("CREATE DATABASE empty")
    try:
        with pytest.raises(MigrationError, match="on a server with PL/Proxy"):
            migrate_proxy(server.url("empty"), servers.migration_urls[1:], servers.url)
    finally:
        server.execute("DROP DATABASE empty")
