"""The API's description: the OpenAPI document for programs, and a page of the same for people."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from starlette.responses import Response

from service.http.documentation.openapi import document, in_order_of_use
from service.http.documentation.page import STYLE_SHEET, page
from service.http.endpoints import Call, Endpoint

_STATIC: Final = Path(__file__).parent / "static"

# Nothing from elsewhere, nothing inline. The last three are not covered by default-src.
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The same for everybody until the next release.
_PUBLIC: Final = {"Cache-Control": "max-age=300"}
_PAGE_HEADERS: Final = {"Content-Security-Policy": _POLICY, **_PUBLIC}


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

    async def openapi(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /openapi.json"""
        return Response(self._document, headers=_PUBLIC, media_type="application/json")

    async def docs(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /docs"""
        return Response(self._page, headers=_PAGE_HEADERS, media_type="text/html")

    async def style_sheet(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /docs/style.css"""
        return Response(self._style_sheet, headers=_PUBLIC, media_type="text/css")
