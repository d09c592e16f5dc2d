"""Pages of the service with the client for browsers in them."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from playwright.sync_api import Page, Request, Route

from tests.database import at
from tests.pages.conftest import Open, Service
from tests.serving import wait_until

BUSINESS: Final = "module"


GUEST: Final = {"guestName": "Ada", "guestEmail": "ada@example.com"}


_NUMBERS: Final = count(1)


class Tab:
    """A page of the service with the client in it, as `client`, for a service of the test's own."""

    def __init__(self, page: Page, service: Service, service_id: str) -> None:
        self.page = page
        self.service = service
        self.service_id = service_id

    def slot(self, hour: int = 10) -> dict[str, str]:
        """Returns the slot of an hour on the Monday of the tests."""
        start, end = (at(hours).isoformat().replace("+00:00", "Z") for hours in (hour, hour + 1))
        return {"serviceId": self.service_id, "slotStart": start, "slotEnd": end}

    def load(self, module: str = "/static/holdfast.js", **options: str) -> None:
        """Loads the module and makes the client."""
        self.page.evaluate(
            "async ([module, options]) => {"
            "  Object.assign(globalThis, await import(module));"
            "  globalThis.client = new Holdfast(options);"
            "}",
            [module, {"business": BUSINESS} | options],
        )

    def begin(self, call: str, *arguments: object) -> None:
        """Makes a call of the client, and does not wait for its result."""
        words = ", ".join(map(json.dumps, arguments))
        self.keep_result(f"client.{call}({words})")

    def keep_result(self, expression: str) -> None:
        """Keeps the result of a promise, for `result`."""
        self.page.evaluate(
            "() => {"
            "  globalThis.results = [];"
            f"  ({expression}).then((value) => results.push(value), (error) => results.push(error));"
            "}"
        )

    def result(self) -> Any:
        """Returns the result of the last call: of one that was refused, the name and the members of the error."""
        self.until_true("results.length > 0")
        return self.page.evaluate("results[0] instanceof Error ? { name: results[0].name, ...results[0] } : results[0]")

    def call(self, call: str, *arguments: object) -> Any:
        """Makes a call of the client, and returns its result."""
        self.begin(call, *arguments)
        return self.result()

    def reload(self) -> None:
        """Loads the page again, and makes the client."""
        self.page.reload()
        self.load()

    def claims(self) -> tuple[list[str], list[str]]:
        """Returns the states of all reservations and appointments of the test's service."""
        states = [
            [
                status
                for (status,) in self.service.database.rows(
                    f"SELECT status FROM booking.{table} WHERE service_id = %s ORDER BY created_at",  # noqa: S608
                    self.service_id,
                )
            ]
            for table in ("reservations", "appointments")
        ]
        return states[0], states[1]

    def wait_for_reservations(self, *states: str) -> None:
        """Returns when the reservations have these states, and there is no appointment."""
        wait_until(lambda: self.claims() == ([*states], []), " ".join(states))

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Returns when a condition holds. Asking the page lets its requests and events through meanwhile."""
        wait_until(lambda: self.page.evaluate("true") and condition(), what)

    def until_true(self, expression: str) -> None:
        """Returns when an expression of the page is true."""
        wait_until(lambda: self.page.evaluate(expression), expression)

    def sent(self, path: str) -> list[Request]:
        """Collects the requests to a path, from now on."""
        requests: list[Request] = []
        self.page.on("request", lambda request: requests.append(request) if path in request.url else None)
        return requests


def lose_answers(page: Page, path: str, times: int = 1) -> list[str | None]:
    """Loses the first answers to a path, after the service has decided; returns the keys of all requests to it."""
    keys: list[str | None] = []

    def forward(route: Route) -> None:
        if len(keys) < times:
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()
        keys.append(route.request.headers.get("idempotency-key"))

    page.route(f"**/{path}", forward)
    return keys


def answer(page: Page, path: str, status: int, body: dict[str, Any] | None, **headers: str) -> None:
    """Answers all requests to a path in the place of the service: with a problem, or as a proxy does."""
    text = "<html>" if body is None else json.dumps(body | {"status": status})
    page.route(f"**/{path}", lambda route: route.fulfill(status=status, body=text, headers=headers))


def count_down(tab: Tab) -> None:
    """Starts a countdown that keeps what it reports."""
    tab.page.evaluate(
        "() => { globalThis.ticks = []; globalThis.ends = [];"
        "globalThis.stop = client.countdown((seconds) => ticks.push(seconds), (refusal) => ends.push(refusal.code)); }"
    )


def tab_opener(open_page: Open, service: Service) -> Callable[..., Tab]:
    """Makes what opens tabs with the client. All of them book the same service, of one guest at a time."""
    service_id = new_service(service)

    def opened(script: str = "") -> Tab:
        page = open_page("/static/start.html")
        if script:
            page.add_init_script(script)
            page.reload()
        tab = Tab(page, service, service_id)
        tab.load()
        return tab

    return opened


def new_service(service: Service) -> str:
    """Makes a service for one guest at a time, and returns its id."""
    return service.database.make_service(f"cut-{next(_NUMBERS)}", business_id=BUSINESS, capacity=1)
