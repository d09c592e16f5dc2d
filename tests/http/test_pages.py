"""The files of the pages: complete, small, cached, safe, and in every language."""

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from service.api import pages
from service.process.app import create_app
from tests.http.conftest import client_of, make_settings
from tests.http.describing import make_app

pytestmark = pytest.mark.anyio

FOLDER = Path(str(pages.FOLDER))
PAGES = ("/book/salon-rosa", "/calendar", "/ops", "/static/start.html")
# Of what one page loads, without compression, and of all files together as they are sent.
MOST_BYTES = 120 * 1024
LANGUAGES = ("en", "de")
_CALENDAR = ("calendar.by_", "calendar.did_", "calendar.role_", "calendar.set_")
# Names of texts that are put together from a code: the rest of the name is not written in a module.
COMPOSED = ("book.code_", "calendar.code_", "calendar.status_", "ops.fault_", "ops.label_", "ops.panel_", *_CALENDAR)


def files_of_pages() -> list[Path]:
    """Returns all files of the pages."""
    return [path for path in FOLDER.rglob("*") if path.is_file()]


def texts(language: str) -> dict[str, Any]:
    """Returns the texts of a language, by section and name."""
    sections = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return {f"{section}.{name}": value for section, named in sections.items() for name, value in named.items()}


def forms(value: str | dict[str, str]) -> list[str]:
    """Returns the forms of a text: several if it depends on a number."""
    return list(value.values()) if isinstance(value, dict) else [value]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_safe_and_refers_to_nothing_outside(path: str) -> None:
    """No inline script or style, and no other origin: the policy would stop it."""
    async with client_of(make_app()) as client:
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'none'"} <= set(policy)
        assert not [directive for directive in policy if "unsafe" in directive or "*" in directive]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.text)
        for link in re.findall(r'<(?:link|script)[^>]*(?:href|src)="([^"]+)"', answer.text):
            if not link.startswith("data:"):
                assert (await client.get(str(answer.url.join(link)))).status_code == 200, link


def test_no_file_refers_to_another_origin() -> None:
    """The pages work where there is no internet."""
    for path in files_of_pages():
        assert not re.search(
            r"url\(|@import\s+[\"']|https?://(?!127\.0\.0\.1|www\.w3\.org/)", path.read_text("utf-8")
        ), path


def loaded(path: Path) -> set[Path]:
    """Returns a file with all that it loads, apart from its texts."""
    found = {path}
    pattern = r'(?:href|src)="(?:\.\./)?static/([^"]+)"' if path.suffix == ".html" else r'^import .* from "([^"]+)";'
    base = FOLDER if path.suffix == ".html" else path.parent
    for link in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE):
        found |= loaded((base / link).resolve())
    return found


@pytest.mark.parametrize("page", ["book", "calendar", "ops"])
def test_a_page_is_small(page: str) -> None:
    """With the texts of a language it loads at once over a slow network."""
    files = loaded(FOLDER / page / f"{page}.html") | {FOLDER / "de.json"}
    assert len(files) > 5
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


async def test_all_pages_together_are_small_as_they_are_sent() -> None:
    """Declarations are for TypeScript: no browser loads them."""
    sent = 0
    async with client_of(make_app()) as client:
        for path in files_of_pages():
            if path.suffix not in (".ts", ".html"):
                request = client.build_request("GET", f"/static/{path.relative_to(FOLDER)}")
                answer = await client.send(request, stream=True)
                assert answer.status_code == 200, path
                sent += len(b"".join([part async for part in answer.aiter_raw()]))
    assert 50 * 1024 < sent < MOST_BYTES


async def test_a_browser_gets_a_file_again_only_when_it_has_changed() -> None:
    """It asks each time, so that the modules of a page are those of one release."""
    async with client_of(make_app()) as client:
        answer = await client.get("/static/page.css")
        assert answer.headers["cache-control"] == "no-cache"
        tag = answer.headers["etag"]
        again = await client.get("/static/page.css", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        other = await client.get("/static/page.css", headers={"If-None-Match": '"another"'})
        assert (other.status_code, other.content) == (200, answer.content)


async def test_only_the_files_of_the_pages_are_served() -> None:
    """Whatever the path says."""
    async with client_of(make_app()) as client:
        for name in (
            "nothing.js",
            "..%2Fpages.py",
            ".",
            "__init__.py",
            "book/book.html",
            "book/nothing.js",
            "x/y/z.js",
        ):
            assert (await client.get(f"/static/{name}")).status_code == 404, name


async def test_an_address_with_a_slash_at_the_end_leads_to_the_page() -> None:
    """Whatever characters it has: a line break would end the header."""
    async with client_of(make_app()) as client:
        answer = await client.get("/book/caf%C3%A9%0A/?service=cut")
    assert (answer.status_code, answer.headers["location"]) == (307, "../caf%C3%A9%0A?service=cut")


async def test_an_unknown_address_answers_a_browser_with_a_page() -> None:
    """A program gets a problem, and so does each call of the API: its clients may accept HTML by default."""
    browser, program = {"Accept": "text/html,*/*;q=0.8"}, {"Accept": "*/*"}
    async with client_of(make_app()) as client:
        for path, headers, media_type in (
            ("/nothing", browser, "text/html; charset=utf-8"),
            ("/nothing", program, "application/problem+json"),
            ("/api/nothing", browser, "application/problem+json"),
        ):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (404, media_type)
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_the_pages_can_be_switched_off() -> None:
    """Only the API and its documentation are left."""
    settings = make_settings("postgresql://nobody@127.0.0.1:1/none").model_copy(update={"pages_enabled": False})
    async with client_of(create_app(settings)) as client:
        for path in (*PAGES, "/static/holdfast.js"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/docs")).status_code == 200


def test_every_language_has_every_text_with_its_parameters() -> None:
    """A text that is missing would stop the page of its readers."""
    english = texts("en")
    for language in LANGUAGES:
        translated = texts(language)
        assert translated.keys() == english.keys()
        for name, value in translated.items():
            assert isinstance(value, dict) == isinstance(english[name], dict), name
            assert not isinstance(value, dict) or "other" in value, name
            parameters = {frozenset(re.findall(r"{(\w+)}", form)) for form in forms(value)}
            expected = {frozenset(re.findall(r"{(\w+)}", form)) for form in forms(english[name])}
            assert frozenset(chain(*parameters)) == frozenset(chain(*expected)), name


def test_every_text_is_shown_somewhere() -> None:
    """A text without a place is dead, and a place without its text is an error on the page."""
    sources = "".join(path.read_text(encoding="utf-8") for path in files_of_pages() if path.suffix != ".json")
    known = texts("en")
    for name in known:
        assert name in sources or name.startswith(COMPOSED), name
    sections = "|".join({name.partition(".")[0] for name in known})
    named = re.findall(rf"""(?:data-text|data-label)="([^"]+)"|text\(\s*"((?:{sections})\.\w+)\"""", sources)
    for name in chain(*named):
        assert not name or name in known, name
