"""The booking page: from the choice of a slot to the confirmation, for each kind of business."""

import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.pages.conftest import PHONE, Open, Service, become, let_pass, serious_faults
from tests.pages.guests import (
    ADA,
    PICTURES,
    book,
    booked,
    choose,
    date_of,
    fill_in,
    following_month,
    free_slots,
    hold,
    make_business,
    next_month,
    open_slots,
    picture,
    slot,
    today,
)
from tests.serving import REPOSITORY

README_PICTURE = REPOSITORY / "deploy" / "booking-page.png"

# The page, the service with the fields of the choice, what the summary says, and the booked members.
KINDS = [
    ("salon-rosa", "Haircut", {"Staff": "Maria"}, ["Haircut, 45 mins", "Maria"], {"resourceId": "maria"}),
    ("harbour-clinic", "Check-up", {"How many": "2"}, ["Check-up, 30 mins", "2"], {"quantity": 2}),
    (
        *("riverside-tennis", "Tennis", {"Court": "Clay court", "How long": "2 hrs"}),
        *(["Tennis, 2 hrs"], {"resourceId": "clay"}),
    ),
    (
        *("lake-hotel", "Double room", {"People": "2", "Length of stay": "3 nights"}),
        *(["3 nights", "Arrival from"], {"quantity": 2}),
    ),
    (
        *("happy-tails", "Deluxe suites", {"Length of stay": "2 nights"}),
        *(["2 nights", "Deluxe suite"], {"serviceId": "deluxe"}),
    ),
    ("harbour-boats", "Dinghy", {"How many": "2", "How long": "2 days"}, ["Dinghy, 2 days"], {"quantity": 2}),
    ("yoga-loft", "Yoga", {"People": "3"}, ["Yoga, 1 hr 30 mins", "Kim"], {"quantity": 3}),
    ("bistro-anton", "Dinner", {"People": "5"}, ["Dinner, 2 hrs", "Table 4"], {"resourceId": "table-4"}),
]
LENGTHS = {
    "salon-rosa": timedelta(minutes=45),
    "harbour-clinic": timedelta(minutes=30),
    "riverside-tennis": timedelta(hours=2),
    "lake-hotel": timedelta(days=3, hours=-4),
    "happy-tails": timedelta(days=2, hours=-3),
    "harbour-boats": timedelta(days=1, hours=9),
    "yoga-loft": timedelta(minutes=90),
    "bistro-anton": timedelta(hours=2),
}


@pytest.mark.parametrize(("slug", "name", "fields", "summary", "members"), KINDS, ids=list(LENGTHS))
def test_a_guest_books(
    open_page: Open,
    service: Service,
    slug: str,
    name: str,
    fields: dict[str, str],
    summary: list[str],
    members: dict[str, object],
) -> None:
    """On a phone: an hour, a night, a day, a class or a table, with the person, the party and the length wanted."""
    page = open_page(f"/book/{slug}", viewport=PHONE)
    choose(page, name, fields)
    next_month(page)
    free_slots(page).first.wait_for()
    picture(page, f"{slug}-375")
    hold(page)
    for words in summary:
        expect(page.locator("#details .panel")).to_contain_text(words)
    fill_in(page, ADA | {"Anything we should know? (optional)": "by the window"})
    book(page)
    for words in summary:
        expect(page.locator("#booked .panel")).to_contain_text(words)
    appointment = booked(page, service)
    assert members.items() <= appointment.items()
    assert (appointment["guestName"], appointment["notes"]) == ("Ada Lovelace", "by the window")
    start, end = (datetime.fromisoformat(appointment[at]) for at in ("slotStart", "slotEnd"))
    assert end - start == LENGTHS[slug]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_step_can_be_used_with_a_screen_reader(open_page: Open, service: Service, colours: str) -> None:
    """No serious fault by axe-core, in both colour schemes; the heading of each step has the focus."""
    path = make_business(service, f"inclusive-{colours}", maxSimultaneousBookings=3)
    page = open_page(path, color_scheme=colours)
    free_slots(page).first.wait_for()
    next_month(page)
    free_slots(page).first.wait_for()
    picture(page, f"choice-{colours}-1280")
    assert serious_faults(page) == []
    hold(page)
    expect(page.get_by_role("heading", name="Your details")).to_be_focused()
    picture(page, f"details-{colours}-1280")
    fill_in(page, {"Name": "Ada", "Phone (optional if you give an e-mail)": "12"})
    page.get_by_role("button", name="Book now").click()
    phone = page.get_by_label("Phone (optional if you give an e-mail)")
    expect(phone).to_be_focused()
    expect(phone).to_have_accessible_description("Please write the number with its country code, like +49 30 1234567.")
    assert serious_faults(page) == []
    fill_in(page)
    phone.clear()
    book(page)
    expect(page.get_by_role("heading", name="You're booked")).to_be_focused()
    picture(page, f"booked-{colours}-1280")
    assert serious_faults(page) == []


def test_the_keyboard_is_enough(open_page: Open) -> None:
    """The month is one stop of the Tab key; arrows go from date to date, and on into the next month."""
    page = open_page("/book/yoga-loft")
    free_slots(page).first.wait_for()
    day = page.get_by_role("grid").get_by_role("button", pressed=True)
    day.focus()
    first = date_of(page)
    for key, days in (("ArrowRight", 1), ("ArrowDown", 8), ("ArrowLeft", 7), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert date_of(page) == first + timedelta(days=days)
    page.keyboard.press("Home")
    assert date_of(page) == max(first - timedelta(days=first.weekday()), today())
    page.keyboard.press("End")
    last = first + timedelta(days=6 - first.weekday())
    assert date_of(page) == last
    page.keyboard.press("PageDown")
    assert (date_of(page).year, date_of(page).month) == following_month(last)
    page.keyboard.press("PageUp")
    assert date_of(page).month == last.month
    page.keyboard.press("PageDown")
    expect(page.get_by_role("grid")).to_have_attribute("aria-busy", "false")
    chosen = f"{date_of(page):%-d %B}"
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name=chosen)).to_be_visible()
    expect(page.get_by_role("grid").get_by_role("button", pressed=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(free_slots(page).first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your details")).to_be_focused()
    for words in ("", "Ada Lovelace", "ada@example.com"):
        page.keyboard.press("Tab")
        page.keyboard.type(words)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="You're booked")).to_be_focused()


@pytest.mark.parametrize(
    ("locale", "first", "second"), [("en-GB", "02:00 CEST", "02:00 CET"), ("de-DE", "02:00 MESZ", "02:00 MEZ")]
)
def test_an_hour_that_the_clock_shows_twice_names_its_zone(
    open_page: Open, locale: str, first: str, second: str
) -> None:
    """In a list of times, and in a date with a range of times; other times have no zone."""
    page = open_page(f"/book/yoga-loft?lang={locale}")
    code = """async (starts) => {
        const { Clock, later } = await import("/static/book/times.js");
        const clock = new Clock("Europe/Berlin");
        return starts.map((start) => [clock.time(start), clock.full(start, later(3600000, start))]);
    }"""
    written = page.evaluate(code, ["2027-10-30T23:00Z", "2027-10-31T00:00Z", "2027-10-31T01:00Z", "2027-10-31T02:00Z"])
    assert [time for time, _ in written] == ["01:00", first, second, "03:00"]
    ranges = [moment for _, moment in written]
    assert all(words in moment for words, moment in ((first, ranges[0]), (second, ranges[1]), (second, ranges[2])))
    assert "CET" not in ranges[3]
    assert "MEZ" not in ranges[3]


def test_a_stay_up_to_a_skipped_midnight_has_its_days(open_page: Open) -> None:
    """It ends an hour later by the clock than it began, and is no day longer. A move asks for as many days."""
    page = open_page("/book/harbour-boats")
    cases = {
        # In Cairo the clock goes from 00:00 to 01:00 on 30 April.
        ("Africa/Cairo", "2027-04-28T22:00Z", "2027-04-29T22:00Z"): 1,
        ("Africa/Cairo", "2027-04-29T22:00Z", "2027-04-30T21:00Z"): 1,
        ("Africa/Cairo", "2027-04-28T22:00Z", "2027-04-30T21:00Z"): 2,
        # From half past two to three o'clock, to half past two again, for nights and from nine to six.
        ("Europe/Berlin", "2027-03-27T01:30Z", "2027-03-28T01:00Z"): 1,
        ("Europe/Berlin", "2027-03-28T01:00Z", "2027-03-29T00:30Z"): 1,
        ("Europe/Berlin", "2027-03-27T13:00Z", "2027-03-29T09:00Z"): 2,
        ("Europe/Berlin", "2027-03-27T08:00Z", "2027-03-28T16:00Z"): 2,
    }
    code = """async (cases) => {
        const [{ lengthOf }, { Clock }] =
            await Promise.all(["booking", "times"].map((name) => import(`/static/book/${name}.js`)));
        const services = [{ serviceId: "stay", durationDays: 1 }];
        return cases.map(([zone, slotStart, slotEnd]) =>
            lengthOf({ serviceId: "stay", slotStart, slotEnd }, { services }, new Clock(zone)));
    }"""
    assert page.evaluate(code, [list(case) for case in cases]) == list(cases.values())


def test_the_page_speaks_german(open_page: Open, service: Service) -> None:
    """Texts, dates and the order of the week are those of the visitor."""
    # A business of its own: the other tests take rooms of the hotel, near the end of a month from this date on.
    nights: dict[str, Any] = {"durationMinutes": None, "durationDays": 1, "maxDurationDays": 14, "endTime": "11:00"}
    nights |= {"startTimes": ["15:00"], "startsOnGrid": True, "maxSimultaneousBookings": 2}
    hut = make_business(service, "mountain-hut", **nights)
    page = open_page(hut, locale="de-AT")
    choose(page, "Visit", {"Aufenthalt": "2 Nächte"})
    free_slots(page).first.wait_for()
    expect(page.get_by_role("columnheader").first).to_have_text("Mo")
    expect(free_slots(page).first).to_contain_text(re.compile("Ab 15:00 Uhr, bis .*, 11:00 Uhr.*noch 2"))
    free_slots(page).first.click()
    expect(page.locator("#details .panel")).to_contain_text("Anreise ab")
    page.get_by_role("button", name="Verbindlich buchen").click()
    expect(page.get_by_label("Name")).to_have_accessible_description("Bitte ausfüllen.")


def test_a_visitor_far_away_sees_both_clocks(open_page: Open) -> None:
    """The time of the business first. The week begins as the visitor is used to."""
    page = open_page("/book/yoga-loft", locale="en-US", timezone_id="America/New_York")
    expect(page.get_by_role("columnheader").first).to_have_text("Sun")
    next_month(page)
    start = datetime.fromisoformat(str(free_slots(page).first.get_attribute("data-start")))
    # Five hours instead of six, while the clock is put back or forward in Europe only.
    theirs = f"{start.astimezone(ZoneInfo('America/New_York')):%-I:%M}"
    expect(free_slots(page).first).to_contain_text(re.compile(rf"^10:00.AM\({theirs}.AM\)"))
    expect(page.get_by_text("Shown in Central European")).to_contain_text("Eastern Time")
    hold(page)
    expect(page.locator("#details .panel")).to_contain_text(re.compile(f"Eastern Time.*{theirs} . .:00.AM"))


def test_a_business_that_is_not_there_is_explained(open_page: Open) -> None:
    """In a sentence, instead of an empty page."""
    page = open_page("/book/nowhere")
    expect(page.get_by_role("heading", name="There is no booking page at this address")).to_be_visible()
    assert serious_faults(page) == []


def test_a_business_without_services_is_explained(open_page: Open, service: Service) -> None:
    """By its name."""
    settings = {"name": "The new one", "slug": "new-one", "timezone": "Europe/Berlin"}
    service.call("PUT", "/api/catalog/businesses/new-one", settings)
    page = open_page("/book/new-one")
    expect(page.get_by_role("heading", name="The new one has nothing to book online")).to_be_visible()


def test_another_time_zone_of_the_business_is_seen_at_once(open_page: Open, service: Service) -> None:
    """The times are by its clock, also on a page that was open before its owner corrected that."""
    page = open_page(make_business(service, "zoned"))
    next_month(page)
    hold(page, slot(page, "10:00"))
    fill_in(page)
    business = {"name": "The zoned", "slug": "zoned", "timezone": "Asia/Tokyo"}
    service.call("PUT", "/api/catalog/businesses/zoned", business)
    expect(page.locator("#details .panel")).to_contain_text("18:00")
    expect(page.get_by_label("Name")).to_have_value(ADA["Name"])
    book(page)


@pytest.mark.parametrize("entry", ["services/visit", "resources/anna"])
def test_what_is_removed_meanwhile_is_explained(open_page: Open, service: Service, entry: str) -> None:
    """To a guest who chooses a time before the page hears of it: to try again would be in vain."""
    business_id = f"remover-{entry[:3]}"
    path = make_business(service, business_id)
    business = f"/api/catalog/businesses/{business_id}"
    for name in ("anna", "bert"):
        service.call("PUT", f"{business}/resources/{name}", {"name": name})
    members = {"name": "Visit", "durationMinutes": 60, "resourceIds": ["anna", "bert"]}
    service.call("PUT", f"{business}/services/visit", members)
    page = open_page(path)
    page.get_by_label("Resource").select_option("anna")
    next_month(page)
    become(page, hidden=True)
    service.call("DELETE", f"{business}/{entry}")
    free_slots(page).first.click()
    expect(page.get_by_role("group", name="This time can't be booked any more")).to_be_focused()


def test_a_day_that_is_taken_meanwhile_is_marked(open_page: Open, service: Service) -> None:
    """Where the page did not hear of it: rather than a free day without times."""
    page = open_page(make_business(service, "unheard", startTimes=["10:00"]))
    next_month(page)
    become(page, hidden=True)
    first = datetime.fromisoformat(str(free_slots(page).first.get_attribute("data-start")))
    slot_of_next_day = {"slotStart": (first + timedelta(days=1)).isoformat()}
    service.call("POST", "/api/booking/reserve", {"businessId": "unheard", "serviceId": "visit"} | slot_of_next_day)
    next_day = page.locator(f"[data-date='{first + timedelta(days=1):%F}']")
    next_day.click()
    expect(next_day).to_have_attribute("aria-disabled", "true")
    expect(next_day).to_be_focused()


def test_the_first_month_with_a_free_day_is_shown(open_page: Open, service: Service) -> None:
    """A business that is closed for months does not look as if it were closed for good."""
    path = make_business(service, "sleepy")
    opens = today() + timedelta(days=100)
    closed = {"date": f"{today():%F}", "until": f"{opens - timedelta(days=1):%F}", "hours": []}
    service.call("PUT", "/api/catalog/businesses/sleepy/special-hours/winter", closed)
    page = open_page(path)
    free_slots(page).first.wait_for()
    expect(page.get_by_role("grid").get_by_role("button", pressed=True)).to_have_attribute("data-date", f"{opens:%F}")
    page.get_by_role("button", name="Previous month").click()
    expect(page.get_by_text("Nothing is free in this month.")).to_be_visible()


def test_a_service_that_ends_before_the_month_in_view_shows_its_first_days(open_page: Open, service: Service) -> None:
    """A guest who looked at next year for another service does not find it booked out."""
    path = make_business(service, "hasty")
    soon = {"name": "Soon", "durationMinutes": 60, "maxAdvanceDays": 10}
    service.call("PUT", "/api/catalog/businesses/hasty/services/soon", soon)
    page = open_page(path)
    choose(page, "Visit")
    free_slots(page).first.wait_for()
    for _ in range(2):
        next_month(page)
    choose(page, "Soon")
    days = [f'[data-date="{today() + timedelta(days=days):%F}"][aria-disabled="false"]' for days in (0, 1)]
    expect(page.locator(", ".join(days)).first).to_be_visible()


def test_it_works_behind_the_prefix_of_a_proxy(open_page: Open, service: Service) -> None:
    """All addresses are relative."""
    page = open_page("/static/start.html")
    page.route("**/shop/**", lambda route: route.continue_(url=route.request.url.replace("/shop/", "/", 1)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service.url}/shop/book/happy-tails")
    next_month(page)
    hold(page)
    fill_in(page)
    book(page)
    assert [url for url in asked if url.startswith(service.url) and "/shop/" not in url] == []
    assert booked(page, service)["businessId"] == "kennel"


def test_the_readme_has_a_picture_of_the_page(open_page: Open) -> None:
    """A small one: `make picture` draws it anew."""
    page = open_page("/book/salon-rosa", viewport={"width": 1120, "height": 520})
    choose(page, "Haircut")
    next_month(page)
    slot(page, "10:00").wait_for()
    page.screenshot(path=PICTURES / README_PICTURE.name)
    if "DRAW_PICTURE" in os.environ:
        shutil.copy(PICTURES / README_PICTURE.name, README_PICTURE)
    assert README_PICTURE.stat().st_size < 60_000
    assert f"]({README_PICTURE.relative_to(REPOSITORY)})" in (REPOSITORY / "README.md").read_text()


def test_a_page_left_open_over_the_end_of_a_month_shows_the_next(open_page: Open, service: Service) -> None:
    """From its first date that can be booked, with the focus where it was. The way back to what is over is closed."""
    page = open_page("/")
    page.clock.install()
    page.goto(service.url + make_business(service, "sleepless"))
    free_slots(page).first.wait_for()
    page.get_by_role("radio", name="Visit").focus()
    passed = timedelta(days=32)
    let_pass(page, passed)
    days = [today() + passed + timedelta(days=more) for more in (0, 1)]
    expect(page.locator("#month-name")).to_have_text(re.compile("|".join(f"{day:%B %Y}" for day in days)))
    expect(page.get_by_role("button", name="Previous month")).to_be_disabled()
    free = page.get_by_role("grid").get_by_role("button", disabled=False)
    assert str(free.first.get_attribute("data-date")) >= f"{days[0]:%F}"
    expect(page.get_by_role("radio", name="Visit")).to_be_focused()


@pytest.mark.parametrize("years", [-3, 3])
def test_a_clock_of_another_year_hides_no_slot(open_page: Open, service: Service, years: int) -> None:
    """The time is that of the service, also for what the guest may do with a booking, and once the texts are known."""
    page = open_page("/")
    page.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=365 * years))
    path = make_business(service, f"lasting{years}")
    # Loaded again, the texts are those that the browser has kept.
    for load in (partial(page.goto, service.url + path), page.reload):
        days = [today()]
        with page.expect_request("**/availability/days?*") as asked:
            load()
        days.append(today())
        [first] = parse_qs(urlsplit(asked.value.url).query)["from"]
        assert first in {f"{day:%F}" for day in days}
        # In the last hour of a month the page goes on to the next one, and keeps that.
        free_slots(page).first.wait_for()
        page.evaluate("sessionStorage.clear()")
    next_month(page)
    hold(page)
    fill_in(page)
    book(page)
    for name in ("Move it", "Cancel it"):
        expect(page.get_by_role("button", name=name)).to_be_visible()


def test_a_page_of_the_history_takes_the_time_of_now(open_page: Open, service: Service) -> None:
    """The browser has kept its texts, with the time of then, which may be of another day after a restart."""
    page = open_page("/book/yoga-loft")
    free_slots(page).first.wait_for()
    page.goto(f"{service.url}/docs/errors")
    # Longer than an answer of now may be late: its time is that of a second, and it is on the way.
    page.wait_for_timeout(5000)
    page.go_back()
    free_slots(page).first.wait_for()
    assert page.evaluate("import('/static/texts.js').then(({ now }) => Date.now() - now())") < 4000


def test_a_language_tag_that_is_none_is_ignored(open_page: Open) -> None:
    """As from a page that writes the country behind a hyphen, but has none."""
    page = open_page("/book/yoga-loft?lang=de-", locale="en-GB")
    expect(page.get_by_text("What would you like?")).to_be_visible()


def test_a_party_is_a_whole_number(open_page: Open) -> None:
    """A part of a guest is left out."""
    page = open_page("/book/yoga-loft")
    free_slots(page).first.wait_for()
    people = page.get_by_label("People")
    people.fill("2.5")
    people.blur()
    expect(people).to_have_value("2")
    free_slots(page).first.wait_for()
    expect(page.locator("#notice")).to_be_hidden()


def test_a_party_that_is_too_large_is_told_so(open_page: Open) -> None:
    """The field does not become smaller in silence. A party that fits takes the words away."""
    page = open_page("/book/bistro-anton")
    free_slots(page).first.wait_for()
    people = page.get_by_label("People")
    words = page.get_by_role("status").filter(has_text="No more than 6 can be booked at once.")
    for party, shown, is_told in (("9", "6", True), ("5", "5", False)):
        people.fill(party)
        people.blur()
        expect(people).to_have_value(shown)
        expect(words).to_be_visible(visible=is_told)


def test_a_press_counts_while_others_take_slots(open_page: Open, service: Service) -> None:
    """Whatever part of the button is pressed: its words are written anew at each change."""
    path = make_business(service, "press", maxSimultaneousBookings=3)
    page = open_slots(open_page, path)
    ten, eleven = (slot(page, time) for time in ("10:00", "11:00"))
    ten.locator("small").first.hover()
    page.mouse.down()
    start = {"slotStart": eleven.get_attribute("data-start")}
    service.call("POST", "/api/booking/reserve", {"businessId": "press", "serviceId": "visit"} | start)
    expect(eleven).to_contain_text("2 left")
    page.mouse.up()
    expect(page.get_by_role("heading", name="Your details")).to_be_visible()
