"""The page that leads to the others."""

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.pages.conftest import PHONE, Open, Service, serious_faults


@pytest.mark.parametrize(
    ("locale", "heading"), [("en-GB", "Book at a business"), ("de-AT", "Bei einem Betrieb buchen")]
)
def test_it_leads_to_a_booking_page(open_page: Open, locale: str, heading: str) -> None:
    """In the visitor's language, on a phone."""
    page = open_page("/", locale=locale, viewport=PHONE)
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert serious_faults(page) == []
    page.get_by_role("textbox").fill("salon-rosa")
    page.get_by_role("textbox").press("Enter")
    page.wait_for_url("**/book/salon-rosa")


def test_a_whole_address_leads_to_its_booking_page(open_page: Open, service: Service) -> None:
    """As a guest copies it from elsewhere."""
    page = open_page("/")
    page.get_by_role("textbox").fill(f"{service.url}/book/salon-rosa/")
    page.get_by_role("textbox").press("Enter")
    page.wait_for_url("**/book/salon-rosa")


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("/book/salon-rosa/?lang=de#x", "Salon Rosa"),
        ("/book/%E0%A4%A", "There is no booking page at this address"),
        ("/book/%FF/", "There is no booking page at this address"),
        ("/book/nobody", "There is no booking page at this address"),
        ("/book/http%3A%2F%2Fsalon.example%2Fbook", "There is no page at this address"),
        ("/book/", "There is no page at this address"),
        ("/calender", "There is no page at this address"),
    ],
)
def test_a_mistyped_address_shows_a_page(open_page: Open, path: str, heading: str) -> None:
    """The page that is meant, where that is clear, or else words; never JSON or nothing."""
    page = open_page(path, viewport=PHONE)
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert serious_faults(page) == []
    if "lang" in path:
        assert page.url.endswith("/book/salon-rosa?lang=de#x")


def test_a_language_without_texts_gets_english(open_page: Open) -> None:
    """Rather than an empty page."""
    expect(open_page("/", locale="fr-FR").get_by_role("heading", name="Book at a business")).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/book/salon-rosa", "/calendar", "/ops"])
@pytest.mark.parametrize(("lost", "status"), [("en.json", None), ("en.json", 503), ("texts.js", None)])
def test_a_page_that_did_not_load_completely_says_so(
    browser: Browser, service: Service, path: str, lost: str, status: int | None
) -> None:
    """After some seconds, in which a slow network may bring the rest. Nothing else of it can be read."""

    def lose(route: Route) -> None:
        if not is_lost:
            route.fallback()
        elif status:
            route.fulfill(status=status, json={"status": status, "code": "OVERLOADED"})
        else:
            route.abort()

    profile = browser.new_context(locale="en-GB")
    page = profile.new_page()
    is_lost = True
    page.route(f"**/{lost}", lose)
    page.goto(service.url + path)
    message = page.get_by_text("This page did not load completely")
    expect(message).to_be_hidden()
    page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
    expect(message).to_be_visible()
    is_lost = False
    page.reload()
    expect(page.get_by_role("heading").first).not_to_be_empty()
    page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
    expect(message).to_be_hidden()
    profile.close()


def test_a_page_without_scripts_says_only_that(browser: Browser, service: Service) -> None:
    """To load it again would be in vain."""
    profile = browser.new_context(java_script_enabled=False)
    page = profile.new_page()
    page.goto(f"{service.url}/calendar")
    expect(page.locator("#unloaded")).to_have_css("display", "none")
    profile.close()


@pytest.mark.parametrize("path", ["/", "/book/salon-rosa", "/calendar", "/ops"])
def test_a_browser_without_scripts_is_told(open_page: Open, path: str) -> None:
    """Rather than an empty page."""
    assert "needs JavaScript" in str(open_page(path).locator("noscript").text_content())
