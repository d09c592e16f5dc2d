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
    """Softly: it stays, with its reason, and its room is free. Repeated, it answers the same."""
    database.make_service()
    booked = await book(client)
    first = await cancel(client, booked, cancellationToken=booked["cancellationToken"], reason="ill")
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert (first.json()["status"], first.json()["cancellationReason"], first.json()["version"]) == (
        "cancelled",
        "ill",
        2,
    )
    second = await cancel(client, booked, cancellationToken=booked["cancellationToken"], reason="bored")
    assert (second.status_code, second.json()) == (200, first.json())
    assert (await read(client, booked))["cancellationReason"] == "ill"
    assert (await create(client))["status"] == "confirmed"
    assert [(entry["action"], entry["actor"]["kind"]) for entry in await audit_trail(client, booked)] == [
        ("created", "guest"),
        ("cancelled", "guest"),
    ]


async def test_a_token_opens_one_appointment_only(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Another's, a malformed or a changed one is a 403; none at all, and no key, is a 401."""
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
    """Secrets are changed without breaking the links that guests have in their mail."""
    database.make_service()
    booked = {"appointmentId": database.book(10).id}
    foreign, older = (
        CancellationTokens(SecretStr(secret)).make("salon", UUID(booked["appointmentId"]))
        for secret in ("another token", "an older token")
    )
    assert refusal(await cancel(client, booked, cancellationToken=foreign)) == (403, "FORBIDDEN")
    assert (await cancel(client, booked, cancellationToken=older)).status_code == 200


async def test_a_guest_is_held_to_the_cancellation_window(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Too late is a 409 that tells when it would have been possible; the business cancels at any time."""
    database.make_service(cancellation_window_minutes=120)
    booked = await book(client)
    database.freeze_clock(at(8) + timedelta(seconds=1))
    response = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert refusal(response) == (409, "CANCELLATION_WINDOW_CLOSED")
    assert response.json()["cancellableUntil"] == timestamp(at(8))
    assert (await read(client, booked))["status"] == "confirmed"
    response = await cancel(client, booked, ADMIN)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    # What is cancelled already is told so, whenever it is asked.
    response = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert response.status_code == 200


async def test_the_window_closes_just_after_its_last_instant(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """cancellableUntil is an instant at which it still can be cancelled."""
    database.make_service(cancellation_window_minutes=120)
    booked = await book(client)
    database.freeze_clock(at(8))
    assert (await cancel(client, booked, cancellationToken=booked["cancellationToken"])).status_code == 200


async def test_the_business_cancels_by_its_key(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Staff may, a key that only reads may not, and a wrong header is not overlooked because of a right token."""
    database.make_service()
    booked = await book(client)
    staff, readonly = await make_key(client, "staff"), await make_key(client, "readonly")
    token = booked["cancellationToken"]
    response = await cancel(client, booked, bearer("wrong"), cancellationToken=token)
    assert refusal(response) == (401, "UNAUTHORIZED")
    assert refusal(await cancel(client, booked, bearer(readonly["key"]))) == (403, "FORBIDDEN")
    response = await cancel(client, booked, bearer(staff["key"]), reason="Rosa is ill")
    assert (response.status_code, response.json()["cancellationReason"]) == (200, "Rosa is ill")
    assert (await audit_trail(client, booked))[-1]["actor"] == {"kind": "staff", "id": staff["keyId"]}


async def test_a_cancellation_may_name_the_version_that_it_means(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Who cancels what has been moved in the meantime may not mean it."""
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
    """As a change does, and as its own ETag invites to; then what is stale is a 412."""
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
    # What is done already is not refused because of its version.
    assert (await cancel(client, booked, caller | {"If-Match": '"2"'}, **token)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}])
async def test_a_cancellation_needs_no_body(
    client: httpx2.AsyncClient, database: TestDatabase, headers: dict[str, str]
) -> None:
    """Nothing in it is required. Without a token in it, the key of the business is what counts."""
    database.make_service()
    address = f"{APPOINTMENTS}/{(await create(client))['appointmentId']}/cancel"
    assert refusal(await client.post(address, headers=headers)) == (401, "UNAUTHORIZED")
    response = await client.post(address, headers=ADMIN | headers)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


async def test_a_change_without_a_body_changes_nothing(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Nothing in it is required either, but for the version, which may be a header; and a body is still JSON."""
    database.make_service()
    appointment = await create(client)
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    assert faulty_fields(await client.patch(address, headers=ADMIN)) == ["expectedVersion"]
    unchanged = await client.patch(address, headers=ADMIN | {"If-Match": '"1"'})
    assert (unchanged.status_code, unchanged.json()) == (200, appointment)
    response = await client.patch(address, headers=ADMIN | {"If-Match": '"1"'}, content=b"{}")
    assert refusal(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_what_is_over_can_not_be_cancelled(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A guest who was there was there."""
    database.make_service()
    booked = await book(client)
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
    """400 and the field."""
    database.make_service()
    appointment = await create(client)
    assert faulty_fields(await cancel(client, appointment, ADMIN, **{member: value})) == [member]
