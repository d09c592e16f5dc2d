"""Cancellation by a guest's token and by a key of the business."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr

from service.booking.tokens import CancellationTokens
from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, audit_trail, book, cancel, change, create, read, timestamp
from tests.http.conftest import ADMIN
from tests.http.keys import bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio


async def test_a_guest_cancels_by_the_token(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The appointment is kept, with its reason, and its room is free. A repeated cancellation returns the first one's
    result."""
    database.make_service()
    booked = await book(client)
    first = await cancel(client, booked, cancellationToken=booked["cancellationToken"], reason="ill")
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert (first.json()["status"], first.json()["version"]) == ("cancelled", 2)
    second = await cancel(client, booked, cancellationToken=booked["cancellationToken"], reason="bored")
    assert (second.status_code, second.json()) == (200, first.json())
    assert (await read(client, booked))["cancellationReason"] == "ill"
    assert (await create(client))["status"] == "confirmed"
    assert [(entry["action"], entry["actor"]["kind"]) for entry in await audit_trail(client, booked)] == [
        ("created", "guest"),
        ("cancelled", "guest"),
    ]


async def test_a_token_cancels_only_its_own_appointment(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A token of another appointment, a malformed or an altered one is a 403; a request with neither token nor key is a
    401."""
    database.make_service()
    booked, other = await book(client, 10), await book(client, 12)
    token = booked["cancellationToken"]
    altered = token[:10] + ("A" if token[10] != "A" else "B") + token[11:]
    for wrong in (
        other["cancellationToken"],
        altered,
        token[:-1],
        token + "x",
        "",
        "v1.",
        "\u00e4",
        "\u0000",
        "x" * 200,
        "x" * 60_000,
    ):
        response = await cancel(client, booked, cancellationToken=wrong)
        assert refusal(response) == (403, "FORBIDDEN"), wrong
    for none in ({}, {"cancellationToken": None}):
        assert refusal(await cancel(client, booked, **none)) == (401, "UNAUTHORIZED")
    unknown = {"appointmentId": str(uuid4())}
    assert refusal(await cancel(client, unknown, cancellationToken=token)) == (404, "APPOINTMENT_NOT_FOUND")
    assert (await read(client, booked))["status"] == "confirmed"
    assert (await cancel(client, booked, cancellationToken=token)).status_code == 200


async def test_a_token_of_an_older_secret_still_cancels(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A rotated secret must not break the links in guests' mail."""
    database.make_service()
    booked = {"appointmentId": database.book(10).id}
    foreign, older = (
        CancellationTokens(SecretStr(secret)).make("salon", UUID(booked["appointmentId"]))
        for secret in ("another token", "an older token")
    )
    assert refusal(await cancel(client, booked, cancellationToken=foreign)) == (403, "FORBIDDEN")
    assert (await cancel(client, booked, cancellationToken=older)).status_code == 200


async def test_a_guest_is_held_to_the_cancellation_window(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Once the window has closed the answer is a 409 with the last instant at which the guest could cancel; the
    business can cancel at any time."""
    database.make_service(cancellation_window_minutes=120)
    booked = await book(client)
    database.freeze_clock(at(8) + timedelta(seconds=1))
    response = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert refusal(response) == (409, "CANCELLATION_WINDOW_CLOSED")
    assert response.json()["cancellableUntil"] == timestamp(at(8))
    assert (await read(client, booked))["status"] == "confirmed"
    response = await cancel(client, booked, ADMIN)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    # A repeated cancellation succeeds even after the window has closed.
    response = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert response.status_code == 200


async def test_the_window_closes_just_after_its_last_instant(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """At the instant cancellableUntil itself a guest can still cancel."""
    database.make_service(cancellation_window_minutes=120)
    booked = await book(client)
    database.freeze_clock(at(8))
    assert (await cancel(client, booked, cancellationToken=booked["cancellationToken"])).status_code == 200


async def test_the_business_cancels_by_its_key(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A staff key cancels, and a readonly key does not."""
    database.make_service()
    booked = await book(client)
    staff, readonly = await make_key(client, "staff"), await make_key(client, "readonly")
    assert refusal(await cancel(client, booked, bearer("wrong"))) == (401, "UNAUTHORIZED")
    assert refusal(await cancel(client, booked, bearer(readonly["key"]))) == (403, "FORBIDDEN")
    response = await cancel(client, booked, bearer(staff["key"]), reason="Rosa is ill")
    assert (response.status_code, response.json()["cancellationReason"]) == (200, "Rosa is ill")
    actor = (await audit_trail(client, booked))[-1]["actor"]
    assert actor == {"kind": "staff", "id": staff["keyId"], "name": "The staff's"}


async def test_a_cancellation_may_name_its_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A cancellation of a version that was changed meanwhile is refused."""
    database.make_service()
    appointment = await create(client)
    await change(client, appointment, {"expectedVersion": 1, "notes": "window"})
    response = await cancel(client, appointment, ADMIN, expectedVersion=1)
    assert refusal(response) == (409, "VERSION_CONFLICT")
    assert response.json()["currentVersion"] == 2
    assert (await cancel(client, appointment, ADMIN, expectedVersion=2)).status_code == 200


@pytest.mark.parametrize("by", ["staff", "guest"])
async def test_a_cancellation_may_name_its_version_as_if_match(
    client: httpx2.AsyncClient, database: TestDatabase, by: str
) -> None:
    """If-Match takes the ETag of an answer, as it does for a change; a stale one is a 412."""
    database.make_service()
    booked = await book(client)
    await change(client, booked, {"expectedVersion": 1, "notes": "window"})
    token = {"cancellationToken": booked["cancellationToken"]} if by == "guest" else {}
    caller = ADMIN if by == "staff" else {}
    stale = await cancel(client, booked, caller | {"If-Match": '"1"'}, **token)
    assert refusal(stale) == (412, "VERSION_CONFLICT")
    assert stale.json()["currentVersion"] == 2
    assert faulty_fields(await cancel(client, booked, caller | {"If-Match": "2"}, **token)) == ["If-Match"]
    both = await cancel(client, booked, caller | {"If-Match": '"2"'}, expectedVersion=1, **token)
    assert faulty_fields(both) == ["expectedVersion"]
    cancelled = await cancel(client, booked, caller | {"If-Match": '"2"'}, **token)
    assert (cancelled.status_code, cancelled.headers["etag"]) == (200, '"3"')
    # A repeated cancellation is not refused for its stale version.
    assert (await cancel(client, booked, caller | {"If-Match": '"2"'}, **token)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}])
async def test_a_cancellation_needs_no_body(
    client: httpx2.AsyncClient, database: TestDatabase, headers: dict[str, str]
) -> None:
    """Without a token in a body, the business's key authorises the cancellation."""
    database.make_service()
    address = f"{APPOINTMENTS}/{(await create(client))['appointmentId']}/cancel"
    assert refusal(await client.post(address, headers=headers)) == (401, "UNAUTHORIZED")
    response = await client.post(address, headers=ADMIN | headers)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


async def test_a_change_without_a_body_changes_nothing(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The version is the only required member and may be the header; a body that is sent must still be JSON."""
    database.make_service()
    appointment = await create(client)
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    assert faulty_fields(await client.patch(address, headers=ADMIN)) == ["expectedVersion"]
    unchanged = await client.patch(address, headers=ADMIN | {"If-Match": '"1"'})
    assert (unchanged.status_code, unchanged.json()) == (200, appointment)
    response = await client.patch(address, headers=ADMIN | {"If-Match": '"1"'}, content=b"{}")
    assert refusal(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_an_ended_appointment_cannot_be_cancelled(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The refusal names the status that the appointment ended with."""
    database.make_service()
    booked = await book(client)
    database.freeze_clock(at(10))
    await change(client, booked, {"expectedVersion": 1, "status": "completed"})
    for response in (
        await cancel(client, booked, ADMIN),
        await cancel(client, booked, cancellationToken=booked["cancellationToken"]),
    ):
        assert refusal(response) == (409, "APPOINTMENT_ENDED")
        assert response.json()["appointmentStatus"] == "completed"


@pytest.mark.parametrize(
    ("member", "value"),
    [("cancellationToken", 5), ("expectedVersion", 0), ("reason", "r" * 2001), ("reason", "\u0000"), ("status", "x")],
)
async def test_a_faulty_cancellation_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """The answer is a 400 with the field."""
    database.make_service()
    appointment = await create(client)
    assert faulty_fields(await cancel(client, appointment, ADMIN, **{member: value})) == [member]
