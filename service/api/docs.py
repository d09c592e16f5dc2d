"""The description of the API: the OpenAPI document, a viewer in which calls can be tried, and pages on
the errors, on the settings of each kind of business and on booking forms."""

import html
import json
import re
from collections.abc import Iterable
from functools import cache, partial
from importlib.resources import files
from typing import Annotated, Final

from anyio import to_thread
from pydantic import Field

from service.errors import PROBLEMS, HoldfastError, Problem
from service.faults import FaultCode
from service.http.answer import JSON, Answer
from service.http.compression import Body
from service.http.endpoint import Endpoint, endpoint, endpoints_of
from service.http.openapi import document

# The viewer sets styles on elements; everything else comes from this service, and goes nowhere else.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The same for every reader until the next release.
_CACHED: Final = {"Cache-Control": "max-age=300"}
_PAGE: Final = {**_CACHED, "Content-Security-Policy": _POLICY}
_HTML: Final = "text/html; charset=utf-8"
_STATIC: Final = files("service.api").joinpath("static")
# Swagger UI is vendored, with its version and licence; `make viewer` renews it.
_ASSETS: Final = {
    "docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "docs.css": ("docs.css", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
}

Asset = Annotated[str, Field(description="The name of the file.")]
_call = partial(endpoint, tag="documentation", limited=False, asks_database=False)


class DocsApi:
    """Describes the `others` and itself."""

    def __init__(self, others: Iterable[Endpoint]) -> None:
        self._others = list(others)
        self._page = Body(_STATIC.joinpath("docs.html").read_bytes())
        self._businesses = Body(_STATIC.joinpath("businesses.html").read_bytes())
        self._embedding = Body(_STATIC.joinpath("embedding.html").read_bytes())
        self._errors = Body(errors_page().encode())
        self._assets = {
            name: (Body(_STATIC.joinpath(path).read_bytes()), kind) for name, (path, kind) in _ASSETS.items()
        }

    @_call("GET", "/", operation_id="getStart", answers={307: None}, answer_headers={307: ("Location",)})
    async def start(self) -> Answer:
        """Go to the documentation."""
        # Relative, so that it is right behind a prefix, and whatever the Host header says.
        return Answer(status=307, headers={"Location": "docs"})

    @_call("GET", "/openapi.json", operation_id="getOpenapi", answers={200: None})
    async def openapi(self) -> Answer:
        """Get the OpenAPI document.

        OpenAPI 3.1, for making clients and tests.
        """
        # In a thread, and only when it is asked for: it takes a fifth of a second.
        return Answer(await to_thread.run_sync(self._document), headers=_CACHED, media_type=JSON)

    @_call("GET", "/docs", operation_id="getDocs", answers={200: None}, media_type="text/html")
    async def docs(self) -> Answer:
        """Get the documentation page."""
        return Answer(self._page, headers=_PAGE, media_type=_HTML)

    @_call("GET", "/docs/errors", operation_id="getErrorsPage", answers={200: None}, media_type="text/html")
    async def errors(self) -> Answer:
        """Get the page of the codes of errors."""
        return Answer(self._errors, headers=_PAGE, media_type=_HTML)

    @_call("GET", "/docs/businesses", operation_id="getBusinessesPage", answers={200: None}, media_type="text/html")
    async def businesses(self) -> Answer:
        """Get the page of the settings by kind of business."""
        return Answer(self._businesses, headers=_PAGE, media_type=_HTML)

    @_call("GET", "/docs/embedding", operation_id="getEmbeddingPage", answers={200: None}, media_type="text/html")
    async def embedding(self) -> Answer:
        """Get the guide to a booking form on a page of your own."""
        return Answer(self._embedding, headers=_PAGE, media_type=_HTML)

    @_call("GET", "/docs/{asset}", answers={200: None}, refusals=("NOT_FOUND",), media_type="text/css, text/javascript")
    async def get_docs_asset(self, asset: Asset) -> Answer:
        """Get a script or a style sheet of these pages."""
        if asset not in self._assets:
            raise HoldfastError("NOT_FOUND")
        content, media_type = self._assets[asset]
        return Answer(content, headers=_CACHED, media_type=media_type)

    @cache  # noqa: B019 — one object lives as long as the process
    def _document(self) -> Body:
        return Body(json.dumps(document([*self._others, *endpoints_of(self)]), ensure_ascii=False).encode())


def errors_page() -> str:
    """Builds the page of the codes, in order of precedence, and of the codes of faults."""
    sections = "\n".join(map(_section, PROBLEMS.values()))
    faults = "\n".join(
        f"<tr><td><code>{code}</code></td><td>{html.escape(code.message)}</td></tr>" for code in FaultCode
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>Holdfast: codes of errors</title>\n"
        '<link rel="icon" href="data:,">\n<link rel="stylesheet" href="docs.css">\n</head>\n<body>\n'
        '<main class="page">\n<h1>Codes of errors</h1>\n'
        "<p>Branch on the code: the texts are for people and may change. A request with several faults gets the code "
        'that stands first here. <a href="../docs">All calls</a>, <a href="#faults">codes of faults</a></p>\n'
        f"{sections}\n"
        '<section id="faults">\n<h2>Codes of faults</h2>\n'
        "<p>Each entry of <code>errors</code> has one of these codes, its <code>parameters</code> by the names in "
        "braces, and this message, which follows the name of the field. To translate, translate this list.</p>\n"
        f"<table>\n<tbody>\n{faults}\n</tbody>\n</table>\n</section>\n"
        "</main>\n</body>\n</html>\n"
    )


def _section(problem: Problem) -> str:
    members = json.dumps(problem.members, indent=1) if problem.members else ""
    return (
        f'<section id="{problem.code}">\n<h2><code>{problem.code}</code> {problem.status}</h2>\n'
        f"<p>{_text(problem.detail)}</p>\n<p><strong>What to do:</strong> {_text(problem.advice)}</p>\n"
        + (f"<pre><code>{html.escape(members)}</code></pre>\n" if members else "")
        + "</section>"
    )


def _text(text: str) -> str:
    """Escapes text, and marks `code`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
