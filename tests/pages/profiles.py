"""Profiles of the browser, which tests use one after the other.

A page in a new profile needs a new window: 0.9 s of processor time, against 0.5 s for a tab in an open window. So a
profile keeps its window, with a blank page, and loses its data before the next test uses it.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Error

_BLANK = "about:blank"


class Profiles:
    """The profiles of one browser, by their options such as `locale`. `launch` starts the browser."""

    def __init__(self, launch: Callable[[], Browser]) -> None:
        self.launch = launch
        self._browser = launch()
        self._free: dict[str, list[BrowserContext]] = {}

    @property
    def browser(self) -> Browser:
        """The browser: a new one, without profiles, if the last one has crashed."""
        if not self._browser.is_connected():
            self._free.clear()
            self._browser = self.launch()
        return self._browser

    def close(self) -> None:
        """Ends the browser."""
        self._browser.close()

    def take(self, **options: Any) -> BrowserContext:
        """Returns a profile that no test uses and that has no data."""
        browser = self.browser
        free = self._free.setdefault(_key(options), [])
        return free.pop() if free else browser.new_context(**options)

    def give_back(self, profile: BrowserContext, **options: Any) -> None:
        """Ends the use of a profile: keeps it without its data, or closes it if it can't be as it was."""
        if _reset(profile):
            self._free[_key(options)].append(profile)
        else:
            profile.close()


def _reset(profile: BrowserContext) -> bool:
    """Removes the data of a profile and all its pages but the first, which becomes a blank one.

    Returns False if the test has closed that page, or has replaced the clock, which all pages of the profile then have
    for ever.
    """
    origins = {f"{parts.scheme}://{parts.netloc}" for parts in (urlsplit(page.url) for page in profile.pages)}
    try:
        first, *others = profile.pages
        first.goto(_BLANK)
    except (ValueError, Error):
        return False
    if not first.evaluate("String(setTimeout).includes('[native code]')"):
        return False
    for page in others:
        page.close()
    profile.set_offline(False)
    profile.clear_permissions()
    session = profile.new_cdp_session(first)
    session.send("Network.clearBrowserCache")
    for origin in origins:
        session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    session.detach()
    return True


def _key(options: dict[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)
