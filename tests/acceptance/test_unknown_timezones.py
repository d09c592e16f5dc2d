"""A time zone that the database server does not know, as after an upgrade of its time zone data."""

from tests.acceptance.conftest import Serve
from tests.database import TestDatabase
from tests.serving import run_command
from tests.shipped_clock import restore_clock


def test_check_and_the_start_report_an_unknown_time_zone(database: TestDatabase, serve: Serve) -> None:
    """The command fails with the zone and its number of businesses; the start logs one warning and goes on."""
    restore_clock(database)
    for business_id in ("salon", "clinic"):
        database.make_business(business_id)
    assert run_command("check", DATABASE_URL=database.url).returncode == 0
    assert serve().events("unknown_timezones") == []
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")

    ended = run_command("check", DATABASE_URL=database.url)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == "unknown_timezone Mars/Olympus: 2"

    [warned] = serve(WORKERS=2).events("unknown_timezones")
    assert (warned["level"], warned["timezones"], warned["businesses"]) == ("warning", ["Mars/Olympus"], 2)
