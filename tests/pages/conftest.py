"""The pages in a real browser: one service with the demo catalog and one Chromium for the tests of a module."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, ViewportSize, expect, sync_playwright

from service.booking import catalog_file
from service.booking.catalog import Catalog
from service.database.connections import Database
from service.process.hosting import run_on_database
from tests.chromium import SHELL
from tests.clusters import RunningCluster
from tests.database import TestDatabase
from tests.serving import ADMIN_TOKEN, NO_CERTIFICATES, SECRETS, ServiceProcess

if TYPE_CHECKING:
    from tests.pages.calendars import CalendarPage

DEMO_CATALOG: Final = Path(__file__).parents[2] / "service" / "process" / "demo_catalog"
SMALLEST_PHONE: Final[ViewportSize] = {"width": 320, "height": 640}
PHONE: Final[ViewportSize] = {"width": 375, "height": 740}
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 800}
# Limits of waiting, in milliseconds: no step takes nearly as long.
_WAIT_MILLISECONDS: Final = 30_000
# The end of a time that passes for a page.
_RUN: Final = timedelta(seconds=3)
# A script for a page that may store nothing.
STORAGE_OFF: Final = """for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
}"""
# Faults of this weight and above fail a test.
_SERIOUS: Final = ("serious", "critical")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests of this folder by name where there is no Chromium."""
    for item in items:
        if Path(__file__).parent in item.path.parents and SHELL is None:
            item.add_marker(pytest.mark.skip(reason="needs chromium"))


class Service:
    """The running service, with its database and calls for the administrator."""

    def __init__(self, process: ServiceProcess, database: TestDatabase) -> None:
        self.process = process
        self.database = database
        self.url = process.url
        # The weeks of tests that need one of their own.
        self.weeks = itertools.count(1)

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Makes a call with the administrator's token, and returns the answer, which must be no error."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} | headers
        answer = httpx2.request(
            method, self.url + path, json=body, headers=headers, timeout=30, trust_env=False, verify=NO_CERTIFICATES
        )
        assert answer.is_success, (method, path, answer.text)
        return answer.json() if answer.content else None

    def open_streams(self) -> int:
        """Returns the number of pages that watch."""
        metrics = httpx2.get(f"{self.url}/metrics", trust_env=False, verify=NO_CERTIFICATES).text
        [clients] = re.findall(r"^holdfast_stream_clients(?:{[^}]*})? (\S+)$", metrics, re.MULTILINE)
        return int(float(clients))


async def apply(catalogs: Iterable[Path], database: Database) -> None:
    """Puts the businesses of catalog files, as `catalog apply` does."""
    for path in catalogs:
        document = catalog_file.parse(path.read_bytes())
        await Catalog(database).put_document(document.business_id, document)


@contextmanager
def running_service(
    cluster: RunningCluster, folder: Path, catalogs: Iterable[Path], **settings: object
) -> Iterator[Service]:
    """Runs the service on a database with the businesses of these files, until the end of the block."""
    with cluster.copy_of_template() as url:
        database = TestDatabase(url)
        urls = {"DATABASE_URL": database.url, "MIGRATION_DATABASE_URL": database.admin_url}
        settings = SECRETS | urls | {"CLEANUP_INTERVAL_SECONDS": 0, "RATE_LIMIT_ENABLED": False} | settings
        # In a thread, because the browser has an event loop in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(run_on_database, database.url, partial(apply, catalogs)).result()
        try:
            with ServiceProcess(folder / "service.log", **settings) as process:
                yield Service(process, database)
            assert database.violations() == {}
        finally:
            database.close()


@pytest.fixture(scope="module")
def service(running_cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Runs the service with the businesses of the demo catalog, for the tests of a module."""
    folder = tmp_path_factory.mktemp("pages")
    with running_service(running_cluster, folder, sorted(DEMO_CATALOG.glob("*.yaml"))) as service:
        yield service


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Runs what drives browsers, not longer than for this folder: no event loop can be started meanwhile."""
    expect.set_options(_WAIT_MILLISECONDS)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Runs Chromium for the tests of a module: if it crashes, those of the next one have another."""
    with playwright.chromium.launch(executable_path=SHELL, args=["--no-sandbox"]) as browser:
        yield browser


Open = Callable[..., Page]
Scheme = Literal["light", "dark"]


@pytest.fixture
def open_page(browser: Browser, service: Service) -> Iterator[Open]:
    """Opens a path of the service in a profile of its own, which shares nothing with others.

    The test fails if a page has an error that it does not catch, or a refusal of the content security policy.
    """
    used: list[BrowserContext] = []
    errors: list[str] = []

    def open_path(
        path: str,
        *,
        viewport: ViewportSize = DESKTOP,
        color_scheme: Scheme = "light",
        locale: str = "en-GB",
        timezone_id: str = "Europe/Berlin",
    ) -> Page:
        profile = browser.new_context(
            viewport=viewport, color_scheme=color_scheme, locale=locale, timezone_id=timezone_id
        )
        used.append(profile)
        profile.set_default_timeout(_WAIT_MILLISECONDS)
        page = profile.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(service.url + path)
        return page

    yield open_path
    for profile in used:
        profile.close()
    assert errors == []


def become(page: Page, *, hidden: bool) -> None:
    """Hides a page, as the browser does when another tab is shown, or shows it again."""
    page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{value: {str(hidden).lower()}, configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def stop_clock(page: Page) -> None:
    """Replaces the clock of a page by one that stands still, ten seconds from now: it can't be set back, and a busy
    machine may take a while to stop it."""
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 10"))


def let_pass(page: Page, time: timedelta) -> None:
    """Lets time pass for a page whose clock was installed.

    It leaps, and the last seconds run: what a timer starts during a leap, as a request, is as late as the leap is long.
    """
    page.clock.fast_forward(round((time - _RUN).total_seconds() * 1000))
    page.clock.run_for(round(_RUN.total_seconds() * 1000))


def is_narrow(page: Page) -> bool:
    """Returns whether the page fits into its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def serious_faults(page: Page) -> list[str]:
    """Returns what axe-core finds wrong with a page for people with disabilities, from `serious` upwards."""
    found = Axe().run(page).response["violations"]
    serious = [fault for fault in found if fault["impact"] in _SERIOUS]
    return [f"{fault['id']}: {node['html']}: {node['failureSummary']}" for fault in serious for node in fault["nodes"]]


@pytest.fixture
def calendar(open_page: Open, service: Service) -> "CalendarPage":
    """Opens the salon's calendar for its staff, who are far away: the times are those of the salon all the same."""
    from tests.pages.calendars import open_calendar  # which imports this module

    return open_calendar(open_page, service, timezone_id="Asia/Tokyo")
