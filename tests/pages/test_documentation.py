"""The documentation on the smallest phones."""

import pytest
from playwright.sync_api import expect

from service.api.guides import guides
from tests.pages.conftest import SMALLEST_PHONE, Open, is_narrow

PAGES = ["/docs/errors", "/docs/businesses", "/docs/embedding", *(f"/docs/deploy/{name}" for name in sorted(guides()))]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_no_scrolling_to_the_side(open_page: Open, path: str) -> None:
    """Long words are broken, and wide tables become lists."""
    assert is_narrow(open_page(path, viewport=SMALLEST_PHONE))


def test_the_list_of_calls_needs_no_scrolling_to_the_side(open_page: Open) -> None:
    """With its links, the parameters, bodies and answers of calls, and the schemas."""
    page = open_page("/docs", viewport=SMALLEST_PHONE)
    call = page.locator("#operations-appointments-createAppointment")
    expect(call).to_be_visible()
    assert is_narrow(page)
    for name in ("appointments-createAppointment", "appointments-rescheduleAppointment", "catalog-putSpecialHours"):
        call = page.locator(f"#operations-{name}")
        call.get_by_role("button").first.click()
        expect(call.locator(".responses-table").first).to_be_visible()
        assert is_narrow(page), name
