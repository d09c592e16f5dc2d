"""The operations page: what it draws is what was done, it tells each fault and its end, and everyone can read it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Final

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from service.booking.health import Findings, judge
from tests.database import MONDAY
from tests.pages.conftest import DESKTOP, PHONE, STORAGE_OFF, Open, Service, serious_faults, stop_clock
from tests.serving import ADMIN_TOKEN, NO_CERTIFICATES, SECRETS, ServiceProcess, free_port, wait_until
from tests.shipped_clock import restore_clock

POLL_MILLISECONDS: Final = 5_000
SCREENSHOTS: Final = Path(__file__).parent / "screenshots"
# A business of the demo catalog whose service has ten places at any time.
KENNEL: Final = {"businessId": "kennel", "serviceId": "standard"}


@pytest.fixture(scope="module", autouse=True)
def _shipped_clock(service: Service) -> None:
    """A movable clock would be a violated invariant. A purge ran, as a scheduler sees to it."""
    restore_clock(service.database)
    service.call("POST", "/cron/cleanup-reservations")


def watch(page: Page, token: str = ADMIN_TOKEN) -> None:
    """Gives the page its token. From then on its clock stands still, but for `look`."""
    stop_clock(page)
    page.locator("#token").fill(token)
    page.locator("#token").press("Enter")


def look(page: Page) -> None:
    """Lets the page ask the service once more."""
    before = page.locator("#updated").inner_text()
    page.clock.run_for(POLL_MILLISECONDS)
    # An answer can take seconds while the database is away.
    expect(page.locator("#updated")).not_to_have_text(before)


def look_until_well(page: Page) -> None:
    """Lets the page ask until all is well: callers may have waited for a connection after an earlier test."""

    def is_well() -> bool:
        look(page)
        return summary(page).inner_text() == "All is well"

    wait_until(is_well, "all to be well")


@pytest.fixture
def board(open_page: Open) -> Page:
    """Opens the page for a healthy service."""
    page = open_page("/ops")
    watch(page)
    expect(summary(page)).to_have_text("All is well")
    return page


def summary(page: Page) -> Locator:
    """Returns the live region with all problems."""
    return page.get_by_role("status")


def panel(page: Page, title: str) -> Locator:
    """Returns a panel by its heading."""
    return page.locator("section", has=page.get_by_role("heading", name=title, exact=True))


def numbers(page: Page, title: str) -> list[dict[str, str]]:
    """Returns the rows of a panel's table, the latest first, by the heads of its columns."""
    place = panel(page, title)
    if not place.get_by_role("table").is_visible():
        place.get_by_text("As a table").click()
    rows = place.get_by_role("row")
    expect(rows.first).to_be_visible()
    head, *entries = rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText))")
    return [dict(zip(head, row, strict=True)) for row in entries]


def reserve(service: Service, day: int) -> httpx2.Response:
    """Reserves a place in the kennel, on a day after the Monday of the tests."""
    start = (MONDAY + timedelta(days=day, hours=12)).isoformat()
    body = {**KENNEL, "slotStart": start}
    url = f"{service.url}/api/booking/reserve"
    return httpx2.post(url, json=body, timeout=30, trust_env=False, verify=NO_CERTIFICATES)


def test_the_numbers_are_those_of_what_was_done(service: Service, board: Page) -> None:
    """Five holds, three of them committed and one released: by hour, by business and by call."""
    before = numbers(board, "Holds and appointments by hour")[0]
    holds = [reserve(service, 1).json()["reservationId"] for _ in range(5)]
    for hold in holds[:3]:
        service.call("POST", "/api/booking/commit", {"reservationId": hold, "guestEmail": "ada@example.com"})
    service.call("POST", f"/api/booking/reservations/{holds[3]}/release?businessId=kennel")
    look(board)
    after = numbers(board, "Holds and appointments by hour")[0]
    if before["Time"] == after["Time"]:  # else a new hour began meanwhile
        grown = {name: int(after[name]) - int(before[name]) for name in after if name != "Time"}
        assert grown == {"Held": 5, "Committed": 3, "Released": 1, "Expired": 0, "Appointments": 3}
    expected = service.call("GET", "/api/operations/overview?hours=24")
    rows = numbers(board, "Holds and appointments by hour")
    assert len(rows) == 24
    assert [int(row["Held"]) for row in rows] == [hour["made"] for hour in reversed(expected["hours"])]
    assert numbers(board, "Share of the holds that were committed")[0]["Committed"] == "75%"
    busiest = numbers(board, "The busiest businesses of the last two hours")[0]
    assert busiest == {"Business": "Happy Tails", "Held": "5", "Appointments": "3"}
    assert int(numbers(board, "Requests in a batch")[0]["Mean"]) >= 1
    calls = {row["Call"]: row["Number"] for row in numbers(board, "The slowest calls since this page was opened")}
    assert calls["POST /api/booking/reserve"] == "5"
    assert calls["POST /api/booking/commit"] == "3"


def test_refusals_are_drawn_by_their_codes(service: Service, board: Page) -> None:
    """By their number since the last look, a minute."""
    assert {reserve(service, 2).status_code for _ in range(10)} == {201}
    look(board)
    for _ in range(3):
        assert reserve(service, 2).status_code == 409
    look(board)
    [latest, *_] = numbers(board, "Refusals a minute")
    assert latest["SLOT_UNAVAILABLE"] == str(3 * 60_000 // POLL_MILLISECONDS)
    look(board)
    assert numbers(board, "Refusals a minute")[0]["SLOT_UNAVAILABLE"] == "0"
    expect(summary(board)).to_have_text("All is well")


def test_a_purge_that_is_late_is_told_until_it_runs(service: Service, board: Page) -> None:
    """With a link into the runbook, which is served too, and the same sentence at the plot."""
    service.database.rows("UPDATE booking.maintenance_runs SET finished_at = finished_at - interval '10 minutes'")
    look(board)
    sentence = re.compile(r"1 problem\s*No purge has ended for (9|10) mins")
    expect(summary(board)).to_have_text(sentence)
    expect(panel(board, "From purge to purge")).to_contain_text("Does the scheduler run?")
    summary(board).get_by_role("link", name="What to do").click()
    expect(board.locator("h2:target")).to_have_text("HoldfastPurgeLate")
    board.go_back()
    expect(summary(board)).to_have_text(sentence)
    service.call("POST", "/cron/cleanup-reservations")
    look(board)
    expect(summary(board)).to_have_text("All is well")
    expect(panel(board, "From purge to purge")).not_to_contain_text("scheduler")


def test_a_lock_that_is_held_from_outside_names_the_business(service: Service, board: Page) -> None:
    """And the session to end, while requests wait for it. The number of slow waits is drawn after they timed out."""
    answers: list[httpx2.Response] = []
    guest = Thread(target=lambda: answers.append(reserve(service, 3)))
    with service.database.locked("kennel") as holder:
        session = holder.info.backend_pid
        guest.start()
        service.database.wait_until_blocked()

        def is_told() -> bool:
            look(board)
            return f"kennel ({session})" in summary(board).inner_text()

        wait_until(is_told, "the business to be named")
        expect(panel(board, "Waits for a lock, a minute")).to_contain_text("End the session that holds it.")
        wait_until(lambda: "lock_timed_out" in service.process.log(), "a wait that times out")
    guest.join()
    assert answers[0].status_code == 201
    look(board)
    assert [row["Held by (pid)"] for row in numbers(board, "Businesses that were waited for")] == [str(session)]
    slow = [row["Longer than a second"] for row in numbers(board, "Waits for a lock, a minute")]
    assert any(rate.isdigit() and rate != "0" for rate in slow)


@contextmanager
def no_database(service: Service) -> Iterator[None]:
    """Refuses and ends all connections of the service."""
    name = service.database.value("SELECT current_database()")
    service.database.rows(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    service.database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()"
    )
    try:
        yield
    finally:
        service.database.rows(f"ALTER DATABASE {name} CONNECTION LIMIT -1")


def test_a_database_that_is_gone_and_back(service: Service, board: Page) -> None:
    """The plots keep what they had, and the page recovers by itself."""
    rows = len(numbers(board, "Holds and appointments by hour"))
    with no_database(service):

        def is_told() -> bool:
            look(board)
            return "PostgreSQL does not answer" in summary(board).inner_text()

        wait_until(is_told, "the database to be missed")
        expect(panel(board, "PostgreSQL and Redis")).to_contain_text("Is its disk full?")
        assert numbers(board, "PostgreSQL and Redis")[0]["PostgreSQL"] == "down"
        assert len(numbers(board, "Holds and appointments by hour")) == rows

    look_until_well(board)
    states = [row["PostgreSQL"] for row in numbers(board, "PostgreSQL and Redis")]
    assert (states[0], states[-1]) == ("up", "up")
    assert "down" in states


def test_a_partition_that_is_down_is_told(service: Service, board: Page) -> None:
    """The others are served, so the service answers; its health names the partition."""
    reasons = judge((datetime.now(UTC), 0, 0, None, None, 0, 0), Findings({}, {}), left_out=[1]).reasons
    body = {**service.call("GET", "/health/reservations"), "status": "critical", "reasons": reasons}
    board.route("**/health/reservations*", lambda route: route.fulfill(status=503, json=body))
    look(board)
    expect(summary(board)).to_have_text(re.compile(r"1 problem\s*PostgreSQL of partition 1 does not answer"))
    expect(summary(board).locator("strong")).to_have_count(1)
    expect(panel(board, "PostgreSQL and Redis")).to_contain_text("Its businesses get 503")
    board.unroute_all()
    look_until_well(board)


def test_a_service_that_is_away_is_told_with_the_time(service: Service, board: Page) -> None:
    """The plots stay, and the page goes on when it is back."""
    assert service.url
    away_at = board.evaluate(f"new Date(Date.now() + {POLL_MILLISECONDS}).toLocaleTimeString('en-GB')")
    board.context.set_offline(True)
    board.clock.run_for(POLL_MILLISECONDS)
    expect(summary(board)).to_contain_text(f"The service has not answered since {away_at}")
    updated = board.locator("#updated").inner_text()
    board.clock.run_for(POLL_MILLISECONDS)
    expect(summary(board)).to_contain_text(f"since {away_at}")
    expect(board.locator("#updated")).to_have_text(updated)
    assert len(numbers(board, "Holds and appointments by hour")) == 24
    board.context.set_offline(False)
    look(board)
    expect(summary(board)).to_have_text("All is well")


def test_an_error_of_a_proxy_is_no_answer(board: Page) -> None:
    """Its page has no metrics: read as a scrape, all that was counted before would be new afterwards."""
    board.route("**/metrics", lambda route: route.fulfill(status=502, body="<html>"))
    board.clock.run_for(POLL_MILLISECONDS)
    expect(summary(board)).to_contain_text("The service has not answered since")
    board.unroute_all()
    look_until_well(board)


def test_a_limit_does_not_end_the_watch(board: Page) -> None:
    """Another person at the same address may have sent wrong tokens."""
    problem = {"status": 429, "code": "RATE_LIMITED"}
    board.route("**/api/operations/overview*", lambda route: route.fulfill(status=429, json=problem))
    look(board)
    expect(board.locator("#board")).to_be_visible()
    board.reload()
    expect(summary(board)).not_to_be_empty()


def test_faults_come_in_the_order_of_urgency(service: Service, open_page: Open, tmp_path: Path) -> None:
    """A process that starts with a violated invariant, an unknown time zone and no Redis tells all three."""
    database = service.database
    hold = reserve(service, 4).json()["reservationId"]
    database.rows("UPDATE booking.occupancy SET claimed = claimed + 1 WHERE business_id = 'kennel' AND starts > now()")
    zone = database.value("SELECT timezone FROM booking.businesses WHERE business_id = 'kennel'")
    put_zone = "UPDATE booking.businesses SET timezone = %s WHERE business_id = 'kennel'"
    database.rows(put_zone, "Mars/Olympus")
    urls = {"DATABASE_URL": database.url, "MIGRATION_DATABASE_URL": database.admin_url}
    settings = SECRETS | urls | {"CLEANUP_INTERVAL_SECONDS": 0, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    try:
        with ServiceProcess(tmp_path / "service.log", **settings) as process:
            page = open_page("/ops")
            page.goto(process.url + "/ops")
            watch(page)
            expect(summary(page)).to_contain_text("miscounted_windows")

            def is_redis_told() -> bool:
                look(page)
                return "Redis" in summary(page).inner_text()

            wait_until(is_redis_told, "Redis to be missed")
            problems = summary(page).get_by_role("listitem").all_inner_texts()
            assert [re.split(r"[ :]", problem)[0] for problem in problems] == ["The", "Redis", "A"]
            expect(summary(page).locator("strong")).to_have_count(1)
            expect(panel(page, "Invariants")).to_contain_text("Keep the evidence before you repair anything.")
            assert int(dict(numbers_of_invariants(page))["miscounted_windows"]) >= 1
            expect(panel(page, "Invariants")).to_contain_text("Mars/Olympus")
            inspect(page, "ops-faults")
    finally:
        database.rows(put_zone, zone)
        database.recount()
        service.call("POST", f"/api/booking/reservations/{hold}/release?businessId=kennel")


def numbers_of_invariants(page: Page) -> list[tuple[str, str]]:
    """Returns the invariants with their violations."""
    return [(row["Invariant"], row["Violations"]) for row in numbers(page, "Invariants")]


def inspect(page: Page, name: str) -> None:
    """Checks a page with axe, and saves a screenshot for people to look at. Both need a clock that runs."""
    page.clock.resume()
    assert serious_faults(page) == []
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.mark.parametrize("wrong", ["wrong", "cut\N{HORIZONTAL ELLIPSIS}"])
def test_a_wrong_token_is_refused_and_not_kept(open_page: Open, wrong: str) -> None:
    """Also one that no header can have. The right one is kept for this tab only, until it is to be forgotten."""
    page = open_page("/ops")
    watch(page, wrong)
    expect(page.get_by_role("alert")).to_have_text("The service refuses this token.")
    expect(page.locator("#token")).to_be_focused()
    stored = "JSON.stringify([sessionStorage, localStorage, document.cookie])"
    assert page.evaluate(stored) == '[{},{},""]'
    page.locator("#token").fill(f" {ADMIN_TOKEN} ")
    page.get_by_role("button", name="Show").click()
    expect(summary(page)).to_have_text("All is well")
    expect(page.locator("#summary")).to_be_focused()
    assert ADMIN_TOKEN not in page.url
    page.reload()
    expect(summary(page)).to_have_text("All is well")
    page.get_by_role("button", name="Forget the token").click()
    expect(page.locator("#token")).to_be_visible()
    assert page.evaluate(stored) == '[{},{},""]'


def test_it_works_where_nothing_can_be_kept(open_page: Open, service: Service) -> None:
    """Storage is switched off, as in some private windows."""
    page = open_page("/")
    page.add_init_script(STORAGE_OFF)
    page.goto(f"{service.url}/ops")
    page.locator("#token").fill(ADMIN_TOKEN)
    page.locator("#token").press("Enter")
    expect(summary(page)).to_have_text("All is well")


SET_HIDDEN: Final = """states => {
    for (const value of states) {
        Object.defineProperty(document, "hidden", { value, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }
}"""


def test_a_hidden_page_asks_nothing(service: Service, board: Page) -> None:
    """It asks at once when it is looked at again, and stops also where it was hidden while it asked."""
    asked: list[str] = []
    board.on("request", lambda request: asked.append(request.url))
    for shown in ([], [False], [False, True]):
        if shown:
            before = board.locator("#updated").inner_text()
            board.evaluate(SET_HIDDEN, shown)
            expect(board.locator("#updated")).not_to_have_text(before)
        board.evaluate(SET_HIDDEN, [True])
        asked.clear()
        board.clock.run_for(60 * POLL_MILLISECONDS)
        board.evaluate("() => fetch('health/live').then(() => true)")
        assert asked == [f"{service.url}/health/live"]
    board.evaluate(SET_HIDDEN, [False])
    look(board)


def test_a_plot_is_read_by_the_keyboard_and_the_pointer(board: Page) -> None:
    """Arrow keys move along the time, and what is read stays where it is when new values come."""
    slider = panel(board, "PostgreSQL and Redis").get_by_role("slider")
    for _ in range(3):
        look(board)
    slider.focus()
    latest = slider.get_attribute("aria-valuetext")
    board.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", "2")
    earlier = str(slider.get_attribute("aria-valuetext"))
    assert earlier != latest
    assert "PostgreSQL up" in earlier
    look(board)
    expect(slider).to_have_attribute("aria-valuetext", earlier)
    board.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "0")
    board.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuenow", "4")
    board.locator("h1").click()
    box = panel(board, "PostgreSQL and Redis").locator(".plot > svg").bounding_box()
    assert box
    board.mouse.move(box["x"] + 1, box["y"] + 5)
    expect(slider).not_to_have_attribute("aria-valuenow", "4")


def test_nothing_moves_when_new_values_come(board: Page) -> None:
    """A reader does not lose the place, nor a table its focus."""
    numbers(board, "Holds and appointments by hour")
    table = panel(board, "Holds and appointments by hour").get_by_role("region")
    table.focus()
    look(board)
    places = (
        "[...document.querySelectorAll('section, details, .plot')].map(e => JSON.stringify(e.getBoundingClientRect()))"
    )
    before = board.evaluate(places)
    look(board)
    assert board.evaluate(places) == before
    expect(table).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_everyone_can_read_it(service: Service, open_page: Open, viewport: dict[str, int], scheme: str) -> None:
    """With open tables, in both schemes, on a phone and a desk."""
    page = open_page("/ops", viewport=viewport, color_scheme=scheme)
    assert serious_faults(page) == []  # the form
    watch(page)
    expect(summary(page)).to_have_text("All is well")
    for _ in range(2):
        reserve(service, 5)
        look(page)
    for details in page.get_by_text("As a table").all()[:3]:
        details.click()
    inspect(page, f"ops-{viewport['width']}-{scheme}")


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_the_smallest_phone_needs_no_scrolling_to_the_side(open_page: Open, direction: str) -> None:
    """In both writing directions. A wide table scrolls beside its first column, and the words of its head are whole."""
    page = open_page("/ops", viewport={"width": 320, "height": 640})
    watch(page)
    expect(summary(page)).to_have_text("All is well")
    page.evaluate("direction => { document.documentElement.dir = direction }", direction)
    numbers(page, "Holds and appointments by hour")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    table = page.get_by_role("table", name="Holds and appointments by hour")
    heads = table.locator("th").evaluate_all("heads => heads.map((head) => head.clientHeight)")
    assert max(heads) < 40, heads
    region = page.get_by_role("region", name="Holds and appointments by hour")
    region.evaluate("region => region.scrollBy(document.documentElement.dir === 'rtl' ? -200 : 200, 0)")
    assert region.evaluate("region => Math.abs(region.scrollLeft)") > 100
    expect(table.get_by_role("cell").first).to_be_in_viewport()


def test_the_runbook_fits_on_a_phone(open_page: Open) -> None:
    """Alerts lead to it, and its headings are their names, which have no blank at which a line could break."""
    page = open_page("/docs/deploy/runbook.md", viewport={"width": 320, "height": 640})
    expect(page.get_by_role("heading", name="HoldfastInvariantViolated")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_german_readers_get_german_texts_and_numbers(open_page: Open) -> None:
    """Times and units as well."""
    page = open_page("/ops", locale="de-DE")
    watch(page)
    expect(summary(page)).to_have_text("Alles in Ordnung")
    expect(page.get_by_role("slider", name="Anteil der bestätigten Reservierungen")).to_contain_text("100\u00a0%")
    expect(panel(page, "Von Aufräumlauf zu Aufräumlauf")).to_contain_text(re.compile(r"\d (Sek\.|Min\.|ms)"))
