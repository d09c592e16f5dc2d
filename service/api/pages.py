"""The pages for people: the booking page, the calendar of a business and the operations page, and the files that they
load. All data on them comes from the calls of the API."""

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import Field

from service.api.shapes import PathBusiness
from service.errors import HoldfastError
from service.http.answer import Answer
from service.http.call import Call
from service.http.compression import Body
from service.http.conditions import CONTENT_HEADERS, tagged_answer
from service.http.endpoint import endpoint

# Files of the service only: no inline scripts or styles, and no other origin.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".ts": "text/plain; charset=utf-8",
}
FOLDER: Final = files("service").joinpath("pages")

# Each has a folder, with a page of its name.
_PAGES: Final = ("book", "calendar", "ops")

Asset = Annotated[str, Field(description="The name of the file.")]
Page = Annotated[str, Field(description="The page that the file belongs to.")]
_page = partial(
    endpoint,
    "GET",
    tag="pages",
    # A page asks for each of its dozen files again, mostly to hear that it is unchanged. Behind one address there may
    # be a school, whose guests need their limit for bookings.
    limited=False,
    asks_database=False,
)
_file = partial(
    _page,
    answers={200: None, 304: None},
    answer_headers={200: CONTENT_HEADERS, 304: CONTENT_HEADERS},
    request_headers=("If-None-Match",),
)
_asset = partial(
    _file, refusals=("NOT_FOUND",), media_type="text/html, text/css, text/javascript, application/json, text/plain"
)


def media_type(name: str) -> str:
    return _MEDIA_TYPES[name[name.rindex(".") :]]


def _file_answer(name: str, content: bytes) -> Callable[[Call], Answer]:
    """Returns the function that answers with a file. Browsers keep the file, and ask each time whether it is still the
    same: so the modules of a page are always those of one release."""
    headers = {"Content-Security-Policy": _POLICY} if name.endswith(".html") else {}
    return partial(tagged_answer, body=Body(content), media_type=media_type(name), headers=headers)


def _load_files() -> dict[str, Callable[[Call], Answer]]:
    """Reads the files that all pages share, and those in the folder of each page, by their paths."""
    folders = {"": FOLDER} | {f"{page}/": FOLDER.joinpath(page) for page in _PAGES}
    return {
        prefix + entry.name: _file_answer(entry.name, entry.read_bytes())
        for prefix, folder in folders.items()
        for entry in folder.iterdir()
        if entry.name.endswith(tuple(_MEDIA_TYPES))
    }


class PagesApi:
    """Serves the pages and their files, which are read once."""

    def __init__(self) -> None:
        self._assets = _load_files()
        # A page has one address: its links are relative to that.
        self._pages = {page: self._assets.pop(f"{page}/{page}.html") for page in _PAGES}

    @_file("/book/{business}", media_type="text/html")
    async def get_booking_page(self, call: Call, business: PathBusiness) -> Answer:  # noqa: ARG002 — read by the page
        """Get the booking page of a business.

        Guests choose a slot there, book it, and move or cancel their booking.
        """
        return self._pages["book"](call)

    @_page("/book/{business}/", answers={307: None}, answer_headers={307: ("Location",)})
    async def get_booking_page_without_slash(self, call: Call, business: PathBusiness) -> Answer:
        """Go to the booking page of a business, from its address with a slash at the end."""
        query = call.scope["query_string"].decode("latin-1")
        # Relative, so that it is right behind a prefix. The browser keeps the fragment, which may have a booking.
        return Answer(status=307, headers={"Location": f"../{quote(business)}" + (f"?{query}" if query else "")})

    @_file("/calendar", media_type="text/html")
    async def get_calendar_page(self, call: Call) -> Answer:
        """Get the calendar of a business.

        The page asks for a key of the business: `readonly` to look, `staff` to change appointments, `owner` for
        closures.
        """
        return self._pages["calendar"](call)

    @_file("/ops", media_type="text/html")
    async def get_operations_page(self, call: Call) -> Answer:
        """Get the operations page.

        The page asks for the administrator's token.
        """
        return self._pages["ops"](call)

    @_asset("/static/{asset}")
    async def get_shared_page_asset(self, call: Call, asset: Asset) -> Answer:
        """Get a file that the pages share.

        `holdfast.js` is a client of this API, to copy or to import.
        """
        return self._asset(call, asset)

    @_asset("/static/{page}/{asset}")
    async def get_page_asset(self, call: Call, page: Page, asset: Asset) -> Answer:
        """Get a file of one page."""
        return self._asset(call, f"{page}/{asset}")

    def _asset(self, call: Call, path: str) -> Answer:
        if path not in self._assets:
            raise HoldfastError("NOT_FOUND")
        return self._assets[path](call)
