"""The page of the settings by kind of business: each of its examples is a call that answers as the page says."""

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import httpx2
import pytest

from service.http import openapi
from tests.database import TestDatabase
from tests.http.conftest import ADMIN

pytestmark = pytest.mark.anyio

# Mondays on which the page may show its examples: in winter, in summer, and in the weeks in which the clock changes.
MONDAYS = [datetime(2027, month, day, tzinfo=UTC) for month, day in ((2, 1), (3, 1), (7, 5), (10, 4))]


class Examples(HTMLParser):
    """The calls of the page, in order: the text of each, its status and the reason of its refusal."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.calls: list[tuple[str, int, str | None]] = []
        self._attributes: dict[str, str | None] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remembers the attributes of an example."""
        if tag == "pre":
            self._attributes = dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        """Forgets them after it."""
        if tag == "pre":
            self._attributes = {}

    def handle_data(self, data: str) -> None:
        """Adds the call of an example."""
        if status := self._attributes.get("data-status"):
            self.calls.append((data, int(status), self._attributes.get("data-reason")))


@pytest.mark.parametrize("monday", MONDAYS)
async def test_every_example_answers_as_the_page_says(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch, monday: datetime
) -> None:
    """Sends all examples in their order, on an empty database."""
    monkeypatch.setattr(openapi, "example_day", lambda: monday)
    database.freeze_clock(monday - timedelta(days=45))
    calls = Examples((await client.get("/docs/businesses")).text).calls
    assert len(calls) > 30
    for text, status, reason in calls:
        request = re.fullmatch(r"(GET|PUT|POST) (\S+)(?:\n(.+))?", text, re.DOTALL)
        assert request, text
        method, path, body = request.groups()
        content = json.loads(body) if body else None
        answer = await client.request(method, path, json=content, headers=ADMIN if "/catalog/" in path else None)
        assert answer.status_code == status, (text, answer.text)
        assert not answer.is_error or answer.json().get("reason") == reason, (text, answer.text)
        if method == "GET":
            assert any(answer.json().values()), (text, answer.text)
