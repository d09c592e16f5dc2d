"""The calendar page: its sign-in, and what each role is offered."""

import re
from datetime import timedelta

import pytest
from playwright.sync_api import Route, expect

from tests.pages.calendars import book, key_of, open_calendar, own_day, sign_in
from tests.pages.conftest import (
    STORAGE_OFF,
    Open,
    Service,
    serious_faults,
)


@pytest.mark.parametrize(
    ("role", "may_book", "may_close"), [("readonly", False, False), ("staff", True, False), ("owner", True, True)]
)
def test_what_the_role_may_not_do_is_not_offered(
    open_page: Open, service: Service, role: str, may_book: bool, may_close: bool
) -> None:
    """The slug names the business as well as its id."""
    day = own_day(service)
    book(service, day, 10)
    calendar = open_calendar(open_page, service, role, business="salon-rosa" if role == "staff" else "salon")
    calendar.show(day)
    expect(calendar.page.get_by_role("heading", name="Salon Rosa")).to_be_visible()
    expect(calendar.page.get_by_role("button", name="New booking")).to_be_visible(visible=may_book)
    expect(calendar.page.get_by_role("button", name="Closures")).to_be_visible(visible=may_close)
    expect(calendar.column("Rosa").get_by_role("button", name="Book Rosa")).to_have_count(int(may_book))
    card = calendar.card("Ada Lovelace")
    card.press("ArrowDown")
    expect(calendar.page.locator(".moving")).to_have_count(int(may_book))
    card.press("Escape")
    card.click()
    expect(calendar.dialog.get_by_text("History")).to_be_visible()
    expect(calendar.dialog.get_by_text("Change or move")).to_be_visible(visible=may_book)
    expect(calendar.dialog.get_by_text("Cancel the appointment")).to_be_visible(visible=may_book)


@pytest.mark.parametrize(
    ("business", "key", "words"),
    [
        ("salon", "hf~salon~wrong", "This key is wrong"),
        ("salon", "hf~salon~cut\N{HORIZONTAL ELLIPSIS}", "This key is wrong"),
        ("salon", "the clinic's", "this key is not one of it"),
        ("nobody", "the clinic's", "There is no such business"),
    ],
)
def test_a_wrong_key_is_refused_plainly(open_page: Open, service: Service, business: str, key: str, words: str) -> None:
    """Nothing is kept of it."""
    page = open_page("/calendar")
    calendar = sign_in(page, business, key_of(service, "owner", "clinic") if key == "the clinic's" else key)
    expect(page.get_by_role("alert").filter(has_text=words)).to_be_visible()
    expect(page.get_by_role("button", name="Today")).to_be_hidden()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    assert serious_faults(calendar.page) == []


def test_it_is_shown_once_the_catalog_is_read(open_page: Open, service: Service) -> None:
    """Before that it knows neither the date of the business nor its columns."""
    page = open_page("/calendar")
    waiting: list[Route] = []
    page.route("**/document", lambda route: waiting.append(route))
    with page.expect_request("**/document"):
        sign_in(page, "salon", key_of(service, "staff"))
    expect(page.get_by_role("button", name="Today")).to_be_hidden()
    waiting[0].continue_()
    expect(page.get_by_role("button", name="Today")).to_be_focused()


def test_a_slow_sign_in_says_that_it_waits(open_page: Open, service: Service) -> None:
    """It is sent once, however often the key is pressed. A page that is loaded again says it too."""
    page = open_page("/calendar")
    waiting: list[Route] = []
    page.route(re.compile("/public/salon$|/document$"), lambda route: waiting.append(route))
    sign_in(page, "salon", key_of(service, "staff"))
    expect(page.get_by_role("button", name="Sign in")).to_be_disabled()
    expect(page.get_by_role("alert").first).to_have_text("Waiting for an answer …")
    assert serious_faults(page) == []
    page.get_by_label("Key").press("Enter")
    assert len(waiting) == 1
    with page.expect_request("**/document"):
        waiting.pop().continue_()
    expect(page.get_by_role("button", name="Sign in")).to_be_disabled()
    waiting.pop().continue_()
    expect(page.get_by_role("button", name="Today")).to_be_focused()
    page.reload()
    expect(page.locator("#status")).to_have_text("Waiting for an answer …")
    waiting.pop().continue_()
    expect(page.get_by_role("button", name="Today")).to_be_visible()
    expect(page.locator("#status")).to_be_empty()


def test_a_sign_in_without_an_answer_ends(open_page: Open, service: Service) -> None:
    """Its words say so, and the form can be sent again."""
    page = open_page("/")
    page.add_init_script(
        "const timeout = AbortSignal.timeout; AbortSignal.timeout = () => timeout.call(AbortSignal, 200)"
    )
    page.goto(f"{service.url}/calendar")
    page.route("**/public/salon", lambda _: None)
    sign_in(page, "salon", key_of(service, "staff"))
    expect(page.get_by_role("alert").first).to_contain_text("it answers too slowly")
    expect(page.get_by_role("button", name="Sign in")).to_be_enabled()
    expect(page.get_by_role("button", name="Sign in")).to_be_focused()
    page.unroute("**/public/salon")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Today")).to_be_focused()


def test_the_key_is_kept_until_the_sign_out(open_page: Open, service: Service) -> None:
    """In this tab only, with what was shown."""
    day = own_day(service)
    calendar = open_calendar(open_page, service)
    calendar.show(day, "Week")
    page = calendar.page
    assert page.evaluate("localStorage.length") == 0
    assert page.context.cookies() == []
    page.reload()
    expect(page.get_by_role("button", name="Week")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-date]").first).to_have_attribute("data-date", str(day - timedelta(1)))
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_have_value("")
    assert page.evaluate("sessionStorage.length") == 0


def test_it_works_where_nothing_can_be_kept(open_page: Open, service: Service) -> None:
    """Storage is switched off, as in some private windows."""
    page = open_page("/")
    page.add_init_script(STORAGE_OFF)
    page.goto(f"{service.url}/calendar")
    sign_in(page, "salon", key_of(service, "staff"))
    expect(page.get_by_role("button", name="Today")).to_be_focused()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_have_value("")


def test_a_key_that_is_revoked_is_signed_out(open_page: Open, service: Service) -> None:
    """With the reason."""
    made = service.call("POST", "/api/catalog/businesses/salon/keys", {"name": "Leaked", "role": "owner"})
    page = open_page("/calendar")
    calendar = sign_in(page, "salon", made["key"])
    expect(page.get_by_role("button", name="Today")).to_be_visible()
    service.call("DELETE", f"/api/catalog/businesses/salon/keys/{made['keyId']}")
    page.locator("#next").dispatch_event("click")
    expect(page.get_by_role("alert").filter(has_text="it was revoked")).to_be_visible()
    expect(calendar.page.get_by_role("button", name="Today")).to_be_hidden()
