"""The API's description: the OpenAPI document for programs, and a page of the same for people."""

import html
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.http.documentation.openapi import document, in_order_of_use
from service.http.documentation.page import ADDRESS, STYLE_SHEET, page
from service.http.endpoints import Call, Endpoint

_STATIC: Final = Path(__file__).parent / "static"

# Nothing from elsewhere, nothing inline. The last three are not covered by default-src.
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The same for everybody until the next release.
_PUBLIC: Final = {"Cache-Control": "max-age=300"}
# But for the address of the service, which is told as the reader wrote it: no cache may show that to others.
_PAGE_HEADERS: Final = {"Content-Security-Policy": _POLICY, "Cache-Control": "private, max-age=300"}


class DocsEndpoints:
    """Describes `others` and itself. Everything is made once, at the start: then there is nothing left to go wrong."""

    def __init__(self, others: Iterable[Endpoint]) -> None:
        endpoints = in_order_of_use([*others, *self.endpoints()])
        described = document(endpoints)
        self._document = json.dumps(described, ensure_ascii=False).encode()
        self._page = page(described, [endpoint.operation_id for endpoint in endpoints]).encode()
        self._style_sheet = (_STATIC / "style.css").read_bytes()

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        return [
            Endpoint(
                "GET",
                "/",
                self.start,
                "The way to the docs page",
                {307: None},
                "For whoever opens the address of the service in a browser.",
                operation_id="getStart",
                tag="documentation",
                asks_database=False,
                answer_headers={307: ("Location",)},
            ),
            Endpoint(
                "GET",
                "/openapi.json",
                self.openapi,
                "The OpenAPI document",
                {200: None},
                "OpenAPI 3.1, for making clients and tests.",
                operation_id="getOpenapi",
                tag="documentation",
                asks_database=False,
            ),
            Endpoint(
                "GET",
                "/docs",
                self.docs,
                "The docs page",
                {200: None},
                "The `type` of each problem leads here.",
                operation_id="getDocs",
                tag="documentation",
                asks_database=False,
                media_type="text/html",
            ),
            Endpoint(
                "GET",
                f"/{STYLE_SHEET}",
                self.style_sheet,
                "The style sheet of the docs page",
                {200: None},
                operation_id="getDocsStyleSheet",
                tag="documentation",
                asks_database=False,
                media_type="text/css",
            ),
        ]

    async def start(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /"""
        # Relative, so that it is right behind a prefix, and whatever the Host header says.
        return Response(status_code=307, headers={"Location": "docs"})

    async def openapi(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /openapi.json"""
        return Response(self._document, headers=_PUBLIC, media_type="application/json")

    async def docs(self, call: Call) -> Response:
        """GET /docs"""
        # For a line of the reader's shell, and in HTML.
        address = html.escape(shlex.quote(_address(call.request)))
        shown = self._page.replace(ADDRESS.encode(), address.encode())
        return Response(shown, headers=_PAGE_HEADERS, media_type="text/html")

    async def style_sheet(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /docs/style.css"""
        return Response(self._style_sheet, headers=_PUBLIC, media_type="text/css")


def _address(request: Request) -> str:
    """Where the reader found the service. It is told to nobody else, so that what they or their proxy say will do."""
    address = request.base_url
    if request.headers.get("x-forwarded-proto") == "https":
        address = address.replace(scheme="https")
    return str(address).rstrip("/")
