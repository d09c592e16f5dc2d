"""The description of the API: the OpenAPI document, a viewer in which calls can be tried, and pages on the errors, the
settings of each kind of business, booking forms and running the service."""

import asyncio
import html
import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Annotated, Final

from pydantic import Field

from service.api.guides import guide_page, guides, page
from service.api.pages import Asset, media_type
from service.errors import PROBLEMS, HoldfastError, Problem
from service.faults import FaultCode
from service.http.answer import JSON, Answer
from service.http.endpoint import Endpoint, endpoint, endpoints_of
from service.http.openapi import document, example_day, shifted
from service.single_flight import SingleFlight

# The viewer sets styles on elements; everything else comes from this service, and goes nowhere else.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The same for every reader. It changes with a release, and the dates of examples each month.
_CACHED: Final = {"Cache-Control": "max-age=300"}
_STATIC: Final = files("service.api").joinpath("static")
# Swagger UI is vendored, with its version and licence; `make viewer` renews it.
_ASSETS: Final = ("docs.js", "docs.css", "swagger-ui/swagger-ui-bundle.js", "swagger-ui/swagger-ui.css")

Guide = Annotated[str, Field(description="The name of the document, such as `runbook.md`.")]
_call = partial(endpoint, "GET", tag="documentation", asks_database=False)
_page = partial(_call, answers={200: None}, media_type="text/html")


class DocsApi:
    """Describes the `others` and itself. The root leads to the page at `start`."""

    def __init__(self, others: Iterable[Endpoint], start: str) -> None:
        self._others = list(others)
        # Relative, so that it is right behind a prefix, and whatever the Host header says.
        self._start = Answer(status=307, headers={"Location": start})
        # By the day of their examples.
        self._document = SingleFlight[datetime, Answer](keep_seconds=math.inf)
        self._businesses = SingleFlight[datetime, Answer](keep_seconds=math.inf)
        self._businesses_text = _STATIC.joinpath("businesses.html").read_text(encoding="utf-8")
        self._pages = {
            name: _page_answer(_STATIC.joinpath(f"{name}.html").read_bytes()) for name in ("docs", "embedding")
        }
        self._errors = _page_answer(errors_page().encode())
        self._guides = guides()
        self._assets = {
            path.rpartition("/")[2]: Answer(_STATIC.joinpath(path).read_bytes(), 200, _CACHED, media_type(path))
            for path in _ASSETS
        }

    @_call("/", answers={307: None}, answer_headers={307: ("Location",)})
    async def get_start(self) -> Answer:
        """Go to the list of pages, or to the documentation where there are no others."""
        return self._start

    @_call("/openapi.json", answers={200: None})
    async def get_openapi(self) -> Answer:
        """Get the OpenAPI document.

        OpenAPI 3.1, for making clients and tests.
        """
        # In a thread, once for each day of its examples, and only when it is asked for: it takes a fifth of a second.
        return await self._document.run(example_day(), partial(asyncio.to_thread, self._make_document))

    @_page("/docs")
    async def get_docs(self) -> Answer:
        """Get the documentation page."""
        return self._pages["docs"]

    @_page("/docs/errors")
    async def get_errors_page(self) -> Answer:
        """Get the page of the codes of errors."""
        return self._errors

    @_page("/docs/businesses")
    async def get_businesses_page(self) -> Answer:
        """Get the page of the settings by kind of business."""
        return await self._businesses.run(example_day(), partial(asyncio.to_thread, self._make_businesses_page))

    @_page("/docs/embedding")
    async def get_embedding_page(self) -> Answer:
        """Get the guide to a booking form on a page of your own."""
        return self._pages["embedding"]

    @_page("/docs/deploy/{guide}", refusals=("NOT_FOUND",))
    async def get_guide_page(self, guide: Guide) -> Answer:
        """Get a document for operators, such as the runbook."""
        if guide not in self._guides:
            raise HoldfastError("NOT_FOUND")
        return _page_answer(await asyncio.to_thread(guide_page, self._guides[guide]))

    @_call("/docs/{asset}", answers={200: None}, refusals=("NOT_FOUND",), media_type="text/css, text/javascript")
    async def get_docs_asset(self, asset: Asset) -> Answer:
        """Get a script or a style sheet of these pages."""
        if asset not in self._assets:
            raise HoldfastError("NOT_FOUND")
        return self._assets[asset]

    def _make_document(self) -> Answer:
        described = document([*self._others, *endpoints_of(self)])
        return Answer(json.dumps(described, ensure_ascii=False).encode(), 200, _CACHED, JSON)

    def _make_businesses_page(self) -> Answer:
        return _page_answer(shifted(self._businesses_text).encode())


def _page_answer(content: bytes) -> Answer:
    return Answer(content, 200, {**_CACHED, "Content-Security-Policy": _POLICY}, media_type(".html"))


def errors_page() -> str:
    """Builds the page of the codes, in order of precedence, and of the codes of faults."""
    sections = "\n".join(map(_section, PROBLEMS.values()))
    faults = "\n".join(
        f"<tr><td><code>{code}</code></td><td>{html.escape(code.message)}</td></tr>" for code in FaultCode
    )
    return page(
        "codes of errors",
        "<h1>Codes of errors</h1>\n"
        "<p>Branch on the code: the texts are for people and may change. A request with several faults gets the code "
        "that stands first here, but for an unknown business and a wrong <code>Guest-Token</code>: they are looked up "
        'behind <code>VALIDATION_FAILED</code>. <a href="../docs">All calls</a>, '
        '<a href="#faults">codes of faults</a></p>\n'
        f"{sections}\n"
        '<section id="faults">\n<h2>Codes of faults</h2>\n'
        "<p>Each entry of <code>errors</code> has one of these codes, its <code>parameters</code> by the names in "
        "braces, and this message, which follows the name of the field. To translate, translate this list.</p>\n"
        f"<table>\n<tbody>\n{faults}\n</tbody>\n</table>\n</section>\n",
    )


def _section(problem: Problem) -> str:
    members = html.escape(json.dumps(problem.members, indent=1))
    return (
        f'<section id="{problem.code}">\n<h2><code>{problem.code}</code> {problem.status}</h2>\n'
        f"<p>{_text(problem.detail)}</p>\n<p><strong>What to do:</strong> {_text(problem.advice)}</p>\n"
        + (f"<pre><code>{members}</code></pre>\n" if problem.members else "")
        + "</section>"
    )


def _text(text: str) -> str:
    """Escapes text, and marks `code`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
