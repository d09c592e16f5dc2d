"""The documentation pages: self-contained, safe, readable, and shown by a real browser."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from service.api import docs
from service.errors import PROBLEMS, Problem
from service.faults import FaultCode
from service.http.openapi import codes
from service.process.app import create_app
from tests.chromium import SHELL
from tests.database import TestDatabase
from tests.http.conftest import client_of, make_settings
from tests.http.describing import example_bodies, make_app, operations, served_document
from tests.serving import SECRETS, ServiceProcess

pytestmark = pytest.mark.anyio

VOID = {"meta", "link"}
# WCAG 2.2 requires 4.5 of text.
CONTRAST = 4.5
PAGES = ("/docs", "/docs/businesses", "/docs/embedding", "/docs/errors")
# The calls of the form in the guide.
OF_THE_FORM = {
    *("getPublicCatalogue", "getAvailableDays", "getAvailability", "reserve", "releaseByPost", "listOwnHolds"),
    *("commit", "cancelAppointment"),
}
NODE = shutil.which("node")


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
        """Checks that the element ends inside the one that it began in."""
        assert self._open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        """Returns all values of an attribute."""
        return [value for _, attributes in self.elements if (value := attributes.get(attribute))]


async def served_page(path: str) -> Page:
    """Returns a page as a browser gets it."""
    async with client_of(make_app()) as client:
        return Page((await client.get(path)).text)


async def test_every_code_has_its_section() -> None:
    """The type of a problem leads there."""
    ids = (await served_page("/docs/errors")).values("id")
    assert ids == [*PROBLEMS, "faults"]


async def test_every_code_of_a_fault_is_listed_with_its_message() -> None:
    """Translators work through the list."""
    async with client_of(make_app()) as client:
        text = html.unescape((await client.get("/docs/errors")).text)
    for code in FaultCode:
        assert f"<td><code>{code}</code></td><td>{code.message}</td>" in text


async def test_the_guide_says_what_to_show_for_each_refusal() -> None:
    """Each code that the calls of its form can meet, and no other, which a reader would look for in vain."""
    async with client_of(make_app()) as client:
        guide = (await client.get("/docs/embedding")).text
    [refusals] = re.findall(r'<section id="refusals">(.*?)</section>', guide, re.DOTALL)
    explained = set(re.findall(r"<code>([A-Z_]{8,})</code>", refusals))
    met = {
        code for endpoint in make_app().endpoints if endpoint.operation_id in OF_THE_FORM for code in codes(endpoint)
    }
    assert explained == met | {"INTERNAL_ERROR"}


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_refers_to_nothing_outside_the_service(path: str) -> None:
    """It works where there is no internet, and tells no third party that it is read."""
    served = await served_page(path)
    async with client_of(make_app()) as client:
        for link in served.values("href") + served.values("src"):
            if link.startswith(("#", "data:")):
                continue
            assert not re.match(r"\w+:|//", link), link
            assert (await client.get(urljoin(path, link))).status_code == 200, link
        for name in ("docs.css", "docs.js"):
            assert not re.search(r"url\(|@import|@font-face|https?:", (await client.get(f"/docs/{name}")).text)


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_on_a_page_needs_more_than_the_policy_allows(path: str) -> None:
    """The policy allows no inline script and no other origin."""
    served = await served_page(path)
    assert not {"style", "iframe", "form", "img"} & {name for name, _ in served.elements}
    for name, attributes in served.elements:
        assert not [key for key in attributes if key == "style" or key.startswith("on")]
        assert name != "script" or attributes.get("src")
    async with client_of(make_app()) as client:
        policy = (await client.get(path)).headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    # The viewer sets styles on elements; a style can't send anything elsewhere under this policy.
    assert [directive for directive in policy if "unsafe" in directive] == ["style-src 'self' 'unsafe-inline'"]
    assert not [directive for directive in policy if "*" in directive or "http" in directive]


@pytest.mark.parametrize(("pages", "start"), [(True, "static/start.html"), (False, "docs")])
async def test_the_root_leads_to_the_first_page(pages: bool, start: str) -> None:
    """The link is relative: right behind a prefix, and independent of the Host header."""
    settings = make_settings("postgresql://nobody@127.0.0.1:1/none").model_copy(update={"pages_enabled": pages})
    async with client_of(create_app(settings)) as client:
        answer = await client.get("/", headers={"Host": "evil.example"})
        assert (answer.status_code, answer.headers["location"]) == (307, start)
        assert (await client.get("/", follow_redirects=True)).url.path == f"/{start}"


async def test_an_unknown_file_is_not_found() -> None:
    """Only the listed files are served, whatever the path says."""
    async with client_of(make_app()) as client:
        for name in ("nothing.js", "..%2Fdocs.html", "VERSION", "swagger-ui"):
            assert (await client.get(f"/docs/{name}")).status_code == 404


def test_text_never_becomes_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions may contain angle brackets and quotes."""
    evil = "\"'><script>alert(1)</script>&amp;`<b>`"
    clean = {name for name, _ in Page(docs.errors_page()).elements}
    problem = Problem("EVIL", 400, evil, evil, members={"errors": [evil]})
    monkeypatch.setattr(docs, "PROBLEMS", {"EVIL": problem})
    written = docs.errors_page()
    assert "<script" not in written
    assert "&amp;amp;" in written
    assert {name for name, _ in Page(written).elements} <= clean


@pytest.mark.parametrize("path", PAGES)
async def test_a_keyboard_and_a_screen_reader_find_their_way(path: str) -> None:
    """Headings don't skip a level, the language is declared, and the first link skips to the content."""
    served = await served_page(path)
    levels = [int(name[1]) for name, _ in served.elements if re.fullmatch(r"h[1-6]", name)]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert ("html", {"lang": "en"}) in served.elements
    assert "main" in [name for name, _ in served.elements]


async def test_text_has_enough_contrast_in_light_and_dark() -> None:
    """In both colour schemes, by WCAG 2.2."""
    async with client_of(make_app()) as client:
        style_sheet = (await client.get("/docs/docs.css")).text
    schemes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root {(.*?)}", style_sheet, re.DOTALL)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        for name in ("text", "link"):
            assert contrast(colours[name], colours["back"]) >= CONTRAST, name


def contrast(one: str, other: str) -> float:
    """Returns the contrast ratio of two colours, as WCAG defines it."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Returns the relative luminance of a colour like #fcfbf8."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# Runs docs.js, and prints the headers that a request of the viewer has with each of these bodies and headers.
INTERCEPTED = """
const [script, requests] = process.argv.slice(1);
globalThis.location = {hash: ""};
globalThis.SwaggerUIBundle = (options) => { globalThis.options = options; };
require(script);
const token = {Authorization: "Bearer admin"};
const sent = JSON.parse(requests).map(([body, headers]) => ({body, headers: {...token, ...headers}}));
console.log(JSON.stringify(sent.map((request) => options.requestInterceptor(request).headers)));
"""


@pytest.mark.skipif(NODE is None, reason="needs node")
async def test_the_viewer_sends_no_other_token_with_a_guests_call() -> None:
    """Once a token is entered, the viewer sends it with every call that takes one."""
    document = await served_document()
    [cancel] = [operation for operation in operations(document) if operation["operationId"] == "cancelAppointment"]
    bodies = example_bodies(cancel)
    plain: dict[str, str] = {}
    requests = [
        (json.dumps(bodies["guest"], indent=2), plain),
        (None, {"Guest-Token": "v1.x"}),
        (json.dumps(bodies["staff"]), plain),
        (None, plain),
    ]
    admin = {"Authorization": "Bearer admin"}
    assert headers_sent(requests) == [{}, {"Guest-Token": "v1.x"}, admin, admin]


def headers_sent(requests: list[tuple[str | None, dict[str, str]]]) -> Any:
    """Returns the headers with which the viewer sends requests after the administrator's token was entered."""
    arguments = [str(NODE), "-e", INTERCEPTED, str(docs._STATIC.joinpath("docs.js")), json.dumps(requests)]
    return json.loads(subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout)


async def test_calls_of_the_public_have_no_security() -> None:
    """The viewer adds a token to a call that has a scheme."""
    for operation in operations(await served_document()):
        if operation["x-access"] == "public":
            assert operation["security"] == []
        elif operation["x-access"] == "guest":
            assert operation["security"][0] in ({}, {"GUEST_TOKEN": []})


@pytest.mark.skipif(SHELL is None, reason="needs chromium")
async def test_a_browser_shows_every_call(database: TestDatabase, tmp_path: Path) -> None:
    """The viewer runs under the policy, without the network, and every call can be linked to."""
    document = await served_document()
    with ServiceProcess(tmp_path / "service.log", **SECRETS, DATABASE_URL=database.url) as service:
        url = f"http://127.0.0.1:{service.port}/docs"
        shown = shown_by_chromium(url, tmp_path)
        assert {operation["operationId"] for operation in operations(document)} == set(
            re.findall(r'id="operations-(?!tag-)\w+-(\w+)"', shown)
        )
        assert '<section id="SLOT_UNAVAILABLE">' in shown_by_chromium(f"{url}#SLOT_UNAVAILABLE", tmp_path)


def shown_by_chromium(url: str, folder: Path) -> str:
    """Returns the document that a browser has made of a page; fails if the page broke its own policy."""
    options: list[Any] = [
        *(
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={folder}/chromium",
        ),
        *("--virtual-time-budget=20000", "--dump-dom"),
    ]
    assert SHELL
    ended = subprocess.run([SHELL, *options, url], capture_output=True, text=True, timeout=120, check=True)
    assert "Content Security Policy" not in ended.stderr, ended.stderr
    return html.unescape(ended.stdout)
