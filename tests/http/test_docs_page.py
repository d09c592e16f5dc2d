"""The docs page: complete, self-contained, and safe."""

import html
import re
import shlex
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from service.errors import KINDS
from service.http.documentation.markup import element
from service.http.documentation.page import page
from tests.http.describing import client_of, make_app, operations, served_document

pytestmark = pytest.mark.anyio

VOID = {"meta", "link"}
# WCAG 2.2 wants 4.5 of text.
CONTRAST = 4.5


class Page(HTMLParser):
    """The elements of a page with their attributes, in order; fails on one that is not closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every element ends inside the one that it began in."""
        assert self._open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [
            value
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name == attribute and value
        ]


async def served_page() -> Page:
    """The page as a browser gets it."""
    async with client_of(make_app()) as client:
        return Page((await client.get("/docs")).text)


async def test_every_call_and_every_code_has_its_place() -> None:
    """The type of a problem is a link here: it must not end at the top of a long page."""
    ids = (await served_page()).values("id")
    assert sorted(set(ids)) == sorted(ids)
    assert set(KINDS) <= set(ids)
    aliases = {"cleanupByGet", "cleanupUnderApi", "cleanupUnderApiByGet"}
    assert {operation["operationId"] for operation in operations(await served_document())} - set(ids) == aliases


async def test_calls_come_in_the_order_in_which_they_are_used() -> None:
    """Somebody who reads from the top learns to reserve before they learn to administrate."""
    ids = (await served_page()).values("id")
    wanted = ["reserve", "commit", "extend", "release", "getCapacity", "live", "cleanup", "putService", "refusals"]
    assert [name for name in ids if name in wanted] == wanted


async def test_the_page_refers_to_nothing_outside_itself() -> None:
    """It is read where there is no internet, and tells nobody else that it is being read."""
    served = await served_page()
    ids = set(served.values("id"))
    links = served.values("href") + served.values("src")
    async with client_of(make_app()) as client:
        for link in set(links):
            if link.startswith("#"):
                assert link[1:] in ids, link
            elif not link.startswith("data:"):
                assert not re.match(r"\w+:|//", link), link
                assert (await client.get(f"/{link}")).status_code == 200, link
        style_sheet = (await client.get("/docs/style.css")).text
    assert not re.search(r"url\(|@import|@font-face", style_sheet)


async def test_nothing_on_the_page_needs_more_than_the_policy_allows() -> None:
    """A page that breaks its own policy looks broken; one that loosens it invites whoever can inject text."""
    served = await served_page()
    assert not {"script", "style", "iframe", "form", "img"} & {name for name, _ in served.elements}
    for _, attributes in served.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    async with client_of(make_app()) as client:
        policy = (await client.get("/docs")).headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "style-src 'self'"} <= set(policy)
    assert "img-src data:" in policy
    assert not [directive for directive in policy if "unsafe" in directive or "*" in directive or "http" in directive]


async def test_whoever_opens_the_address_of_the_service_is_led_to_the_page() -> None:
    """By a way that is right behind a prefix too, and that nobody's Host header leads astray."""
    async with client_of(make_app()) as client:
        answer = await client.get("/", headers={"Host": "evil.example"})
        assert (answer.status_code, answer.headers["location"]) == (307, "docs")
        assert (await client.get("/", follow_redirects=True)).url.path == "/docs"


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"Host": "127.0.0.1:9000"}, "http://127.0.0.1:9000"),
        ({"Host": "book.example"}, "http://book.example"),
        ({"Host": "book.example", "X-Forwarded-Proto": "https"}, "https://book.example"),
        ({"Host": "[::1]:8000"}, "'http://[::1]:8000'"),
    ],
)
async def test_the_examples_are_for_the_address_at_which_the_page_was_opened(
    headers: dict[str, str], address: str
) -> None:
    """They are copied into a shell; and what one reader's address is, no cache between tells another."""
    async with client_of(make_app()) as client:
        answer = await client.get("/docs", headers=headers)
    assert f"HOLDFAST={address}\n" in html.unescape(answer.text)
    assert ".invalid" not in answer.text
    assert "private" in answer.headers["cache-control"]


async def test_the_start_says_where_everything_comes_from_that_the_examples_need() -> None:
    """Whoever copies one finds in it no variable that was not set, and no id whose place they were not told."""
    document = await served_document()
    async with client_of(make_app()) as client:
        text = html.unescape((await client.get("/docs")).text)
    start, calls = text.split('<section id="access">')
    [lines, *_] = re.findall(r"<pre><code>(.*?)</code>", start, re.DOTALL)
    assert set(re.findall(r"\$([A-Z_]+)", calls)) == set(re.findall(r"^([A-Z_]+)=", lines, re.MULTILINE))
    ids = {name for path in document["paths"] for name in re.findall(r"{(reservationId|appointmentId|keyId)}", path)}
    assert len(ids) == 3
    for name in (*ids, "key"):
        assert f"<li><code>{name}</code>" in start, name


async def test_on_a_phone_the_table_of_callers_keeps_its_calls_in_sight() -> None:
    """It is wider than the screen: a yes at its right end would belong to nothing."""
    async with client_of(make_app()) as client:
        style_sheet = (await client.get("/docs/style.css")).text
    [narrow] = re.findall(r"@media \(max-width: 40rem\) {(.*?)\n}", style_sheet, re.DOTALL)
    [column] = re.findall(r"\.wide th:first-child {(.*?)}", narrow, re.DOTALL)
    for declaration in ("position: sticky", "left: 0", "background: var(--paper)"):
        assert declaration in column


@pytest.mark.parametrize("host", ["<script>", '"><script>alert(1)</script>', "$(reboot)", "a;reboot", "a'b", "a\\b"])
async def test_a_host_that_is_none_becomes_neither_markup_nor_a_command(host: str) -> None:
    """Whatever a request says of itself."""
    async with client_of(make_app()) as client:
        text = (await client.get("/docs", headers={"Host": host})).text
    assert "<script" not in text
    [value] = re.findall(r"HOLDFAST=(.*)", html.unescape(text))
    [address] = shlex.split(value)
    assert value == shlex.quote(address)


async def test_text_never_becomes_markup() -> None:
    """Descriptions are written by people who think of guests, not of angle brackets."""
    document = await served_document()
    evil = "\"'><script>alert(1)</script>&amp;`<b>`"
    order = [operation["operationId"] for operation in operations(document)]
    clean = Page(page(document, order))
    document["info"] |= {"title": evil, "version": evil, "description": f"{evil}\n\n- {evil}"}
    for operation in operations(document):
        operation |= {"summary": evil, "description": evil}
    for schema in document["components"]["schemas"].values():
        schema["description"] = evil
        for member in schema.get("properties", {}).values():
            member["description"] = evil
    written = page(document, order)
    assert "<script" not in written
    assert "&amp;amp;" in written
    assert {name for name, _ in Page(written).elements} == {name for name, _ in clean.elements}
    assert Page(element("a", evil, title=evil)).elements == [("a", {"title": evil})]


async def test_a_keyboard_and_a_screen_reader_find_their_way() -> None:
    """Headings don't skip a level, there is a link past the contents, and a language to read in."""
    served = await served_page()
    levels = [int(name[1]) for name, _ in served.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert ("html", {"lang": "en"}) in served.elements
    names = [name for name, _ in served.elements]
    assert next(attributes["href"] for name, attributes in served.elements if name == "a") == "#content"
    assert names.index("a") < names.index("nav") < names.index("main")


async def test_text_stands_out_in_the_light_and_in_the_dark() -> None:
    """Colours that look fine on one screen are unreadable on another, or in the sun."""
    async with client_of(make_app()) as client:
        style_sheet = (await client.get("/docs/style.css")).text
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root {(.*?)}", style_sheet, re.DOTALL)
    )
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for name in colours.keys() - {"paper", "raised", "line"}:
            for ground in ("paper", "raised"):
                assert contrast(colours[name], colours[ground]) >= CONTRAST, (name, ground)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, as WCAG defines it."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of a colour like #fcfbf8."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
