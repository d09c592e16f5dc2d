"""The documents for operators as pages: complete, linked, and free of markup that a text might bring."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest

from service.api.guides import guide_page, guides
from tests.deploy.installation import DEPLOY
from tests.http.conftest import client_of
from tests.http.describing import make_app

pytestmark = pytest.mark.anyio

RUNBOOK = "/docs/deploy/runbook.md"


class Page(HTMLParser):
    """The tags, anchors and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.tags.add(tag)
        attributes = dict(attrs)
        if anchor := attributes.get("id"):
            self.ids.add(anchor)
        if tag == "a" and (link := attributes.get("href")):
            self.links.add(link)


def test_every_document_is_served() -> None:
    """Those of deploy/, whose links lead from one to the other."""
    assert set(guides()) == {path.name for path in DEPLOY.glob("*.md")}
    assert "runbook.md" in guides()


@pytest.mark.parametrize("name", sorted(guides()))
async def test_every_link_has_its_target(name: str) -> None:
    """A document and its anchor. Links to files that are not served became text."""
    path = f"/docs/deploy/{name}"
    async with client_of(make_app()) as client:
        answer = await client.get(path)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "'unsafe-eval'" not in answer.headers["content-security-policy"]
        for link in Page(answer.text).links:
            target, anchor = urldefrag(urljoin(path, link))
            if not target.startswith("https://"):
                page = await client.get(target)
                assert page.status_code == 200, link
                assert not anchor or anchor in Page(page.text).ids, link


async def test_the_runbook_has_the_anchors_of_its_alerts() -> None:
    """The alerts refer to them, and so does the operations page. Tables and code are rendered too."""
    async with client_of(make_app()) as client:
        page = Page((await client.get(RUNBOOK)).text)
    headings = re.findall(r"^## (Holdfast\w+)$", (DEPLOY / "runbook.md").read_text(), re.MULTILINE)
    assert len(headings) > 10
    assert {heading.lower() for heading in headings} <= page.ids
    assert "a-time-zone-that-the-server-does-not-know" in page.ids
    assert {"table", "pre", "code", "strong", "ul"} <= page.tags
    assert "upgrade.md#going-back" in page.links


async def test_nothing_else_is_served() -> None:
    """Whatever the path says."""
    async with client_of(make_app()) as client:
        for name in ("nothing.md", "compose.yaml", "..%2FREADME.md", "Dockerfile"):
            assert (await client.get(f"/docs/deploy/{name}")).status_code == 404, name


def test_text_never_becomes_markup(tmp_path: Path) -> None:
    """A document can have angle brackets, and links that would run a script."""
    document = tmp_path / "evil.md"
    document.write_text("# <b>A & B</b>\n\n<script>alert(1)</script> [x](javascript:alert(1)) [y](../z.md) `<i>`\n")
    page = guide_page(document).decode()
    assert not {"script", "b", "i"} & Page(page).tags
    assert Page(page).links == set()
    assert "<title>Holdfast: &lt;b&gt;A &amp; B&lt;/b&gt;</title>" in page
