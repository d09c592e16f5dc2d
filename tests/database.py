"""The database of one test, and direct calls of the verbs in sql/functions, without Python or HTTP in between."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

LOGIN = "holdfast_test"
PASSWORD = "holdfast"

# A Monday far enough ahead that no test's slot is past, and near enough to be bookable.
MONDAY = (datetime.now(UTC) + timedelta(days=30)).replace(hour=0, minute=0, second=0, microsecond=0)
MONDAY -= timedelta(days=MONDAY.weekday())

NO_DEADLINE = datetime.max.replace(tzinfo=UTC)


def with_database(url: str, name: str) -> str:
    """Returns the URL of another database on the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def at(hour: float, *, day: int = 0) -> datetime:
    """Returns an instant on the Monday of the tests, or `day` days later."""
    return MONDAY + timedelta(days=day, hours=hour)


class Outcome:
    """The outcome of a verb for one request."""

    def __init__(self, name: str, body: dict[str, Any] | None) -> None:
        self.name = name
        self.body = body or {}

    def __repr__(self) -> str:
        return f"Outcome({self.name!r}, {self.body!r})"

    @property
    def id(self) -> str:
        """The id of the reservation or appointment."""
        return str(self.body.get("appointment_id") or self.body["reservation_id"])


class TestDatabase:
    """A database with the schema, and a superuser's connection to it in autocommit mode, by default a new one."""

    __test__ = False

    def __init__(self, admin_url: str, admin: psycopg.Connection | None = None) -> None:
        self.is_new = admin is None
        self.admin_url = admin_url
        parts = urlsplit(admin_url)
        self.url = parts._replace(netloc=f"{LOGIN}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()
        # Statements are not prepared: whether they are would depend on earlier tests with this connection.
        self.admin = admin or psycopg.connect(admin_url, autocommit=True, prepare_threshold=None)

    def close(self) -> None:
        """Closes the superuser's connection."""
        self.admin.close()

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection:
        """Connects with the rights of the service, which may execute the granted functions."""
        return psycopg.connect(self.url, autocommit=autocommit)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs a statement as superuser."""
        cursor = self.admin.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *parameters: object) -> Any:
        """Returns the single value of a statement."""
        return self.rows(query, *parameters)[0][0]

    def outcome(self, function: str, *parameters: object) -> Outcome:
        """Calls a function of the schema that returns one outcome."""
        places = ", ".join(["%s"] * len(parameters))
        [(name, body)] = self.rows(f"SELECT outcome, body FROM booking.{function}({places})", *parameters)  # noqa: S608
        return Outcome(name, body)

    def violations(self) -> dict[str, int]:
        """Returns the violated invariants, with the number of rows in their views."""
        return {name: count for name, count in self.rows("SELECT * FROM booking.invariant_violations(false)") if count}

    # The clock.

    def move_clock(self, by: timedelta) -> None:
        """Moves booking.now() at once, for every connection."""
        self.rows("UPDATE testing.clock SET ahead = ahead + %s, frozen_at = frozen_at + %s", by, by)

    def freeze_clock(self, instant: datetime | None = None) -> datetime:
        """Stops booking.now() at an instant, by default the present one, and returns that."""
        frozen: datetime = self.value(
            "UPDATE testing.clock SET frozen_at = coalesce(%s, booking.now()) RETURNING frozen_at", instant
        )
        return frozen

    # The catalog.

    def make_business(self, business_id: str = "salon") -> str:
        """Makes a business if it is missing, and returns its id."""
        # Most calls find it, and a read is cheaper than a put.
        if not self.rows("SELECT booking.business(%s)", business_id):
            settings = {"name": business_id, "slug": None, "timezone": "Europe/Berlin", "country": "DE"}
            self.rows("SELECT * FROM booking.put_business(%s, %s, %s)", business_id, json.dumps(settings), NO_DEADLINE)
        return business_id

    def make_service(
        self, service_id: str = "cut", *, business_id: str = "salon", capacity: int | None = None, **settings: Any
    ) -> str:
        """Makes a service of an hour. Its capacity is by default the number of its `resource_ids`, the pool, or 1.

        Makes its business and its resources if need be.
        """
        self.make_business(business_id)
        known = self.rows("SELECT booking.resources(%s) ->> 'resource_id'", business_id)
        for resource_id in set(settings.get("resource_ids", [])) - {resource_id for (resource_id,) in known}:
            self.make_resource(resource_id, business_id=business_id)
        outcome = self.put_service(service_id, business_id=business_id, capacity=capacity, **settings)
        assert outcome.name in ("created", "done"), outcome
        return service_id

    def put_service(
        self, service_id: str = "cut", *, business_id: str = "salon", capacity: int | None = None, **settings: Any
    ) -> Outcome:
        """Puts a service and returns the verb's outcome."""
        pool = settings.get("resource_ids", [])
        complete = {
            "name": service_id,
            "max_simultaneous_bookings": max(1, len(pool)) if capacity is None else capacity,
            "duration_minutes": 60,
            "min_duration_minutes": 1,
            "max_duration_minutes": 43_200,
            "hold_ttl_minutes": 15,
            "max_hold_ttl_minutes": 60,
            "max_hold_lifetime_minutes": 120,
            "slot_step_minutes": 60,
            "buffer_before_minutes": 0,
            "buffer_after_minutes": 0,
            "min_notice_minutes": 0,
            "max_advance_days": 3660,
            "cancellation_window_minutes": 0,
            "booking_enabled": True,
            **settings,
        }
        return self.outcome("put_service", business_id, service_id, json.dumps(complete), NO_DEADLINE)

    def make_resource(self, resource_id: str, *, business_id: str = "salon", **settings: object) -> str:
        """Makes a resource, and its business if that is missing."""
        self.make_business(business_id)
        complete = {"name": resource_id, "kind": "staff", "booking_enabled": True, **settings}
        outcome = self.outcome("put_resource", business_id, resource_id, json.dumps(complete), NO_DEADLINE)
        assert outcome.name in ("created", "done"), outcome
        return resource_id

    def put_hours(
        self, hours: Sequence[tuple[int, str, str] | dict[str, Any]], *, business_id: str = "salon"
    ) -> Outcome:
        """Replaces the opening hours: (weekday, opens, closes), or a dict that has a resource_id too."""
        entries = [
            entry if isinstance(entry, dict) else dict(zip(("weekday", "opens", "closes"), entry, strict=True))
            for entry in hours
        ]
        return self.outcome("put_opening_hours", business_id, json.dumps(entries), NO_DEADLINE)

    def put_closure(
        self,
        closure_id: str,
        start: datetime,
        end: datetime,
        resource_id: str | None = None,
        business_id: str = "salon",
    ) -> Outcome:
        """Puts a closure and returns the verb's outcome."""
        settings = {"from": start.isoformat(), "to": end.isoformat(), "resource_id": resource_id}
        return self.outcome("put_closure", business_id, closure_id, json.dumps(settings), NO_DEADLINE)

    # The verbs.

    def call(
        self,
        verb: str,
        requests: list[dict[str, Any]],
        *,
        business_id: str = "salon",
        deadline: datetime = NO_DEADLINE,
        connection: psycopg.Connection | None = None,
    ) -> list[Outcome]:
        """Calls a verb with a batch of requests, and returns the outcomes in the order of the requests."""
        rows = (connection or self.admin).execute(
            "SELECT operation_id, outcome, body FROM booking.execute(%s, %s, %s) WHERE outcome <> 'lock_waited'",
            [[business_id], [Jsonb({verb: requests})], deadline],
        )
        outcomes = {operation_id: Outcome(name, body) for operation_id, name, body in rows}
        assert len(outcomes) == len(requests)
        return [outcomes[UUID(request["operation_id"])] for request in requests]

    def reserve(self, hour: float = 10, hours: float = 1, **request: Any) -> Outcome:
        """Reserves one slot on the Monday of the tests."""
        return self._call_one("reserve", reserve_request(hour, hours, **request))

    def commit(self, reservation_id: str, **request: Any) -> Outcome:
        """Commits one hold."""
        return self._call_one("commit", commit_request(reservation_id, **request))

    def extend(self, reservation_id: str, ttl_minutes: float = 30, **request: Any) -> Outcome:
        """Extends one hold."""
        return self._call_one("extend", extend_request(reservation_id, ttl_minutes, **request))

    def book(self, hour: float = 10, hours: float = 1, **request: Any) -> Outcome:
        """Books one slot on the Monday of the tests without a hold, for the public unless `manual`."""
        return self._call_one("book", book_request(hour, hours, **request))

    def change(self, appointment_id: str, **request: Any) -> Outcome:
        """Changes one appointment: by its `action`, what to `set`, the `expected_version`, the `actor_kind`."""
        return self._call_one("change", change_request(appointment_id, **request))

    def release(self, reservation_id: str, **keywords: Any) -> Outcome:
        """Releases one hold."""
        return self._call_one("release", release_request(reservation_id) | keywords)

    def _call_one(self, verb: str, request: dict[str, Any]) -> Outcome:
        """Calls a verb with one request, among whose members may be further arguments of `call`."""
        keywords = {name: request.pop(name) for name in ("business_id", "deadline", "connection") if name in request}
        return self.call(verb, [request], **keywords)[0]

    def purge(self, *, retention: timedelta = timedelta(hours=24), limit: int = 1000) -> tuple[int, int, bool]:
        """Purges the salon, and returns (expired, deleted, busy)."""
        [(expired, deleted, busy)] = self.rows(
            "SELECT expired, deleted, busy <> '{}' FROM booking.purge('{salon}', %s, %s, %s)",
            retention,
            limit,
            NO_DEADLINE,
        )
        return expired, deleted, busy

    def capacity(self, hour: float = 10, hours: float = 1, service_id: str = "cut") -> dict[str, int]:
        """Returns the capacity left in one slot on the Monday of the tests."""
        room: dict[str, int] = self.value(
            "SELECT booking.capacity('salon', %s, %s, %s)", service_id, at(hour), at(hour + hours)
        )
        return room

    def recount(self) -> None:
        """Recounts claims that were inserted or deleted without the verbs."""
        self.rows("SELECT booking.recount(business_id, %s) FROM booking.businesses", NO_DEADLINE)

    def forget_claims(self) -> None:
        """Deletes all reservations and appointments, and forgets which resources they used.

        Without TRUNCATE, after which each session plans all its statements of these tables anew.
        """
        for table in ("audit_logs", "appointments", "reservations", "occupancy"):
            self.rows(f"DELETE FROM booking.{table}")  # noqa: S608 — one of these
        self.rows("UPDATE booking.resources SET last_assigned_at = '-infinity' WHERE last_assigned_at > '-infinity'")

    def status(self, reservation_id: str) -> str | None:
        """Returns the stored status of a reservation, which does not show an expiry by itself."""
        rows = self.rows("SELECT status FROM booking.reservations WHERE reservation_id = %s", reservation_id)
        return rows[0][0] if rows else None

    @contextmanager
    def locked(self, business_id: str = "salon") -> Iterator[psycopg.Connection]:
        """Holds the lock of a business, until the end of the block or until the connection commits."""
        with psycopg.connect(self.admin_url) as connection:
            connection.execute("SELECT FROM booking.businesses WHERE business_id = %s FOR NO KEY UPDATE", [business_id])
            yield connection

    def wait_until_blocked(self, count: int = 1) -> None:
        """Returns when `count` connections wait for a lock, which makes an interleaving deterministic."""
        give_up_at = time.monotonic() + 30
        while self.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") < count:
            assert time.monotonic() < give_up_at, f"fewer than {count} wait for a lock"


def reserve_request(hour: float = 10, hours: float = 1, **request: Any) -> dict[str, Any]:
    """Returns a request to booking.reserve for a slot on the Monday of the tests."""
    return {
        "operation_id": str(uuid4()),
        "service_id": "cut",
        "slot_start": at(hour).isoformat(),
        "slot_end": at(hour + hours).isoformat(),
        "quantity": 1,
        **request,
    }


def commit_request(reservation_id: str, **request: Any) -> dict[str, Any]:
    """Returns a request to booking.commit."""
    return {
        "operation_id": str(uuid4()),
        "reservation_id": reservation_id,
        "guest_email": "guest@example.com",
        "metadata": {},
        "source": "online",
        "actor_kind": "guest",
        **request,
    }


def book_request(hour: float = 10, hours: float = 1, **request: Any) -> dict[str, Any]:
    """Returns a request to booking.book for a slot on the Monday of the tests."""
    return {
        **reserve_request(hour, hours),
        "guest_email": "guest@example.com",
        "metadata": {},
        "source": "online",
        "actor_kind": "guest",
        **request,
    }


def change_request(appointment_id: str, **request: Any) -> dict[str, Any]:
    """Returns a request to booking.change, by default by the staff."""
    return {
        "operation_id": str(uuid4()),
        "appointment_id": appointment_id,
        "action": "change",
        "actor_kind": "staff",
        **request,
    }


def extend_request(reservation_id: str, ttl_minutes: float = 30, **request: Any) -> dict[str, Any]:
    """Returns a request to booking.extend."""
    return {"operation_id": str(uuid4()), "reservation_id": reservation_id, "ttl_minutes": ttl_minutes, **request}


def release_request(reservation_id: str) -> dict[str, Any]:
    """Returns a request to booking.release."""
    return {"operation_id": str(uuid4()), "reservation_id": reservation_id}
