"""Who may call what: one table of all calls on the docs page."""

from collections.abc import Iterator
from typing import Final

from service.http.documentation.calls import Json
from service.http.documentation.markup import Html, element, prose

# Who calls, and what they show, as the document says it. A guest's token is in the request itself.
_CALLERS: Final[dict[str, Json | None]] = {
    "Public": None,
    "Guest's token": {},
    "Readonly": {"READONLY_KEY": []},
    "Staff": {"STAFF_KEY": []},
    "Owner": {"OWNER_KEY": []},
    "Admin": {"ADMIN_TOKEN": []},
    "Cron": {"CRON_SECRET": []},
}
_INTRO: Final = """\
Readonly, staff and owner are the roles of a business's keys. Other businesses do not exist for them: the answer is \
`BUSINESS_NOT_FOUND`. What the public may call, anyone may, with or without a token. The id of a reservation and the \
address of a calendar feed are credentials in themselves.
"""


def access_table(groups: list[tuple[Json, list[Json]]]) -> Html:
    """The table of the calls of each tag, a row for each address."""
    head = element("tr", element("th", "Call", scope="col"), *(element("th", who, scope="col") for who in _CALLERS))
    rows = [
        element("tr", _call(call, method, path), *_cells(call))
        for _, calls in groups
        for call in calls
        for method, path in call["addresses"]
    ]
    table = element(
        "table",
        element("caption", "Each address, and whether it lets this caller through"),
        element("thead", head),
        element("tbody", *rows),
    )
    # It can be wider than a phone: then a keyboard has to be able to move it.
    scrolled = element("div", table, role="region", aria_label="Who may call what", tabindex="0", class_="wide")
    return element("section", element("h2", "Who may call what"), prose(_INTRO), scrolled, id="access")


def _call(call: Json, method: str, path: str) -> Html:
    verb = element("span", method.upper(), class_=f"method {method}")
    return element("th", verb, " ", element("a", element("code", path), href=f"#{call['operationId']}"), scope="row")


def _cells(call: Json) -> Iterator[Html]:
    """What asks for nothing is open to all."""
    for shown in _CALLERS.values():
        may = not call["security"] or shown in call["security"]
        yield element("td", "yes") if may else element("td", "no", class_="no")
