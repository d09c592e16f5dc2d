"""How partitions come to be, and how they move: the steps of deploy/scaling.md."""

import json
import re
import subprocess
from contextlib import ExitStack

import pytest

from service.database.migrations import MigrationError, sql_folder
from tests.database import NO_DEADLINE, TestDatabase
from tests.proxy.calls import partitions_with
from tests.proxy.installation import Installation
from tests.proxy.servers import NODE_PROGRAMS, Server


def test_one_server_becomes_two_partitions(servers: Installation) -> None:
    """A proxy with the server as its only partition, then a copy of it: the steps of deploy/scaling.md. Each node keeps
    its own businesses, their bookings and slugs, and every table."""
    names = [f"grown-{number}" for number in range(6)]
    folder = servers.proxy.folder.parent.with_name("grown")
    folder.mkdir()
    with ExitStack() as stack:
        grown = Installation(folder, stack)
        grown.partitions = [grown.add_server("one")]
        grown.migrate()
        for hour, name in enumerate(names):
            book(grown, name, hour)
        assert partitions_of(grown, names) == {0}
        copy = grown.add_standby("two", grown.partitions[0])
        [(written,)] = grown.rows(grown.partitions[0], "SELECT pg_logical_emit_message(true, 'holdfast', '')::text")
        copy.wait_for_replay(written)
        copy.execute("SELECT pg_promote()")
        grown.partitions.append(copy)
        with pytest.raises(MigrationError, match="which belongs to another one"):
            grown.migrate()
        for partition, server in enumerate(grown.partitions):
            prune(server, partition, partitions=2)
        assert grown.migrate() == ["proxy"]
        slugs = [f"slug-of-{name}" for name in names]
        found = grown.rows(grown.proxy, "SELECT business_id FROM booking.businesses_named(%s)", slugs)
        assert {name for (name,) in found} == set(names)
        for hour, name in enumerate(names):
            book(grown, name, hour + 8)
        assert partitions_of(grown, names) == {0, 1}
        for server in grown.partitions:
            assert grown.rows(server, "SELECT FROM booking.invariant_violations(false) WHERE violations > 0") == []
        assert grown.rows(grown.proxy, "SELECT FROM booking.stray_slugs()") == []


def book(servers: Installation, business_id: str, hour: float) -> None:
    """Books a slot of a business through the proxy. Makes the business, with a slug, if need be."""
    database = TestDatabase(servers.proxy.url("holdfast"))
    try:
        database.make_service(business_id=business_id)
        settings = {"name": business_id, "slug": f"slug-of-{business_id}", "timezone": "Europe/Berlin"}
        database.rows("SELECT booking.put_business(%s, %s, %s)", business_id, json.dumps(settings), NO_DEADLINE)
        hold = database.reserve(hour, business_id=business_id)
        assert database.commit(hold.id, business_id=business_id).name == "done"
    finally:
        database.close()


def partitions_of(servers: Installation, business_ids: list[str]) -> set[int]:
    """Returns the partitions that have appointments of businesses, each of which must be on one node only."""
    found = [partitions_with(servers, "appointments", business_id) for business_id in business_ids]
    assert all(len(partitions) == 1 for partitions in found)
    return {partition for [partition] in found}


def prune(server: Server, partition: int, *, partitions: int) -> None:
    """Runs the script that deletes the businesses of other partitions, with psql."""
    variables = ("ON_ERROR_STOP=1", f"partitions={partitions}", f"partition={partition}")
    arguments = [word for variable in variables for word in ("--set", variable)]
    script = sql_folder() / "proxy" / "prune.sql"
    subprocess.run([NODE_PROGRAMS / "psql", *arguments, "--file", script, server.url("holdfast")], check=True)


def test_the_script_that_prunes_a_copy_knows_every_table(servers: Installation) -> None:
    """A table that it did not know would keep the rows of other partitions, or bar the deletion."""
    named = set(re.findall(r"DELETE FROM booking\.(\w+)", (sql_folder() / "proxy" / "prune.sql").read_text()))
    of_businesses = servers.rows(
        servers.partitions[0],
        "SELECT table_name FROM information_schema.columns JOIN information_schema.tables "
        "USING (table_schema, table_name) WHERE table_schema = 'booking' AND column_name = 'business_id' "
        "AND table_type = 'BASE TABLE'",
    )
    assert named == {name for (name,) in of_businesses} - {"maintenance_runs"}
