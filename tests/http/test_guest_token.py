"""The header Guest-Token: guests read, move and cancel their appointment, and nothing else."""

from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr

from service.booking.tokens import CancellationTokens
from service.database import connections
from tests.database import TestDatabase, at
from tests.http.booking_calls import (
    APPOINTMENTS,
    audit_trail,
    book,
    by_token,
    cancel,
    change,
    commit,
    create,
    read,
    reschedule,
    reserve,
    slot,
    timestamp,
)
from tests.http.conftest import ADMIN, running
from tests.http.describing import Json
from tests.http.keys import bearer, make_key
from tests.http.refusals import faulty_fields, refusal
from tests.sql.listings import hour_of_iso

pytestmark = pytest.mark.anyio

AVAILABILITY = "/api/booking/availability"


def address(appointment: Json) -> str:
    """Returns the address of an appointment."""
    return f"{APPOINTMENTS}/{appointment['appointmentId']}"


# What a guest sees.


async def test_a_guest_sees_the_booking_and_not_what_the_business_writes(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The id of the hold, notes, metadata and the reason are hidden, also in the answers to a move and to a
    cancellation. A member that is added later has to be decided about here."""
    database.make_service(cancellation_window_minutes=60)
    held = await reserve(client)
    guest = {"guestName": "Ada", "guestPhone": "+49301234567", "notes": "by the window", "metadata": {"margin": 40}}
    booked = (await commit(client, held["reservationId"], **guest)).json()
    response = await client.get(address(booked), headers=by_token(booked))
    assert (response.status_code, response.headers["etag"]) == (200, '"1"')
    shown = {
        "appointmentId": booked["appointmentId"],
        "reservationId": None,
        "businessId": "salon",
        "serviceId": "cut",
        "resourceId": None,
        "slotStart": timestamp(at(10)),
        "slotEnd": timestamp(at(11)),
        "quantity": 1,
        "status": "confirmed",
        "version": 1,
        "guestName": "Ada",
        "guestEmail": "guest@example.com",
        "guestPhone": "+49301234567",
        "notes": None,
        "metadata": {},
        "source": "online",
        "createdAt": booked["createdAt"],
        "updatedAt": booked["updatedAt"],
        "cancellableUntil": timestamp(at(9)),
        "reschedulableUntil": timestamp(at(9)),
    }
    assert response.json() == shown
    assert (await client.head(address(booked), headers=by_token(booked))).status_code == 200
    assert (await change(client, booked, {"expectedVersion": 1, "notes": "pays late"})).status_code == 200

    moved = (await reschedule(client, booked, 14)).json()
    own = {"slotStart": timestamp(at(14)), "slotEnd": timestamp(at(15)), "updatedAt": moved["updatedAt"], "version": 3}
    until = {"cancellableUntil": timestamp(at(13)), "reschedulableUntil": timestamp(at(13))}
    assert moved == shown | own | until
    await cancel(client, booked, ADMIN, reason="never pays")
    cancelled = (await cancel(client, booked, by_token(booked))).json()
    assert cancelled == moved | {"status": "cancelled", "version": 4, "updatedAt": cancelled["updatedAt"]}
    stored = await read(client, booked)
    assert (stored["notes"], stored["metadata"]) == ("pays late", {"margin": 40})
    assert (stored["cancellationReason"], stored["reservationId"]) == ("never pays", held["reservationId"])


async def test_a_guest_that_repeats_a_booking_sees_what_the_token_shows(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A key, and the client's id of a hold, get the booking as it was sent until it is changed. From then on they hide
    what the business has written since."""
    database.make_service(capacity=3)
    guest: Json = {"guestEmail": "ada@example.com", "notes": "by the window", "metadata": {"price": 40}}
    form = {"serviceId": "cut", "startTime": timestamp(at(10)), "firstName": "Ada", "email": "ada@example.com"}
    own = {"X-Client-Id": str(uuid4())}
    held = (await client.post("/api/booking/reserve", json=slot(), headers=own)).json()
    for path, body, headers in (
        ("/api/bookings", slot(**guest), {"Idempotency-Key": str(uuid4())}),
        ("/api/v1/public/salon/book", {**form, "notes": "by the window"}, {"Idempotency-Key": str(uuid4())}),
        ("/api/booking/commit", {"reservationId": held["reservationId"], **guest}, own),
    ):
        first, again = [(await client.post(path, json=body, headers=headers)).json() for _ in range(2)]
        assert again == first
        booked = first.get("data", first)
        await change(client, booked, {"expectedVersion": 1, "notes": "pays late", "metadata": {"margin": 40}})
        await cancel(client, booked, ADMIN, reason="never pays")
        again = (await client.post(path, json=body, headers=headers)).json()
        seen = (await client.get(address(booked), headers=by_token(booked))).json()
        assert again.get("data", again) == seen | {"cancellationToken": booked["cancellationToken"]}


async def test_the_reason_of_a_cancellation_is_hidden_from_the_guest_that_repeats_the_commit(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Who repeats all of the guest's data is the guest, from whom the token hides the reason."""
    database.make_service()
    held = await reserve(client)
    booked = (await commit(client, held["reservationId"])).json()
    await cancel(client, booked, ADMIN, reason="never pays")
    again = (await commit(client, held["reservationId"])).json()
    assert (again["status"], again.get("cancellationReason")) == ("cancelled", None)


async def test_a_guest_of_a_manual_booking_moves_it_too(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The staff passed the token on."""
    database.make_service()
    response = await client.post(APPOINTMENTS, json=slot(guestName="Ada"), headers=ADMIN)
    by_phone = response.json()
    moved = await reschedule(client, by_phone, 14)
    assert (moved.status_code, moved.headers["etag"], moved.json()["version"]) == (200, '"2"', 2)
    trail = [(entry["action"], entry["actor"]["kind"]) for entry in await audit_trail(client, by_phone)]
    assert trail == [("created", "admin"), ("rescheduled", "guest")]


# Who may call.


async def test_a_token_decides_in_place_of_the_key(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A wrong token is a 403 whatever key is sent with it, and with the right one the terms for guests apply."""
    database.make_service(capacity=3, cancellation_window_minutes=366 * 24 * 60)
    booked, other = await book(client), await book(client, 12)
    for key in ({}, ADMIN, bearer("wrong"), bearer((await make_key(client, "readonly"))["key"])):
        for wrong in (other["cancellationToken"], booked["cancellationToken"] + "x", "", "\u00e4".encode("latin-1")):
            headers: Any = {**key, "Guest-Token": wrong}
            for response in (
                await client.get(address(booked), headers=headers),
                await reschedule(client, booked, 14, headers),
                await cancel(client, booked, headers),
            ):
                assert refusal(response) == (403, "FORBIDDEN")
        headers = key | by_token(booked)
        assert (await client.get(address(booked), headers=headers)).json()["metadata"] == {}
        assert refusal(await reschedule(client, booked, 14, headers)) == (409, "RESCHEDULE_WINDOW_CLOSED")
        assert refusal(await cancel(client, booked, headers)) == (409, "CANCELLATION_WINDOW_CLOSED")
    assert (await read(client, booked))["version"] == 1


async def test_a_token_in_the_body_decides_too(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Beside the administrator's token a wrong one is a 403, and the right one is held to the window; both places must
    have a right one."""
    database.make_service(cancellation_window_minutes=366 * 24 * 60)
    booked = await book(client)
    token = booked["cancellationToken"]
    assert refusal(await cancel(client, booked, ADMIN, cancellationToken="v1.wrong")) == (403, "FORBIDDEN")
    late = await cancel(client, booked, ADMIN, cancellationToken=token)
    assert refusal(late) == (409, "CANCELLATION_WINDOW_CLOSED")
    for in_header, in_body in ((token, "v1.wrong"), ("v1.wrong", token)):
        both = await cancel(client, booked, {"Guest-Token": in_header}, cancellationToken=in_body)
        assert refusal(both) == (403, "FORBIDDEN")
    database.make_service()
    assert (await cancel(client, booked, by_token(booked), cancellationToken=token)).status_code == 200


async def test_a_token_in_the_body_decides_beside_a_key_without_access(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Such as a wrong key, a readonly one, or one of another business: a right token cancels, and a wrong one is a
    403."""
    database.make_service(capacity=5)
    database.make_service(business_id="clinic")
    readonly, stranger = await make_key(client, "readonly"), await make_key(client, "owner", "clinic")
    for key in (bearer("wrong"), {"Authorization": "Basic Zzo="}, bearer(readonly["key"]), bearer(stranger["key"])):
        booked = await book(client)
        assert refusal(await cancel(client, booked, key, cancellationToken="v1.wrong")) == (403, "FORBIDDEN")
        canceled = await cancel(client, booked, key, cancellationToken=booked["cancellationToken"])
        assert (canceled.status_code, canceled.json()["version"]) == (200, 2)


async def test_a_key_without_access_is_refused_before_the_faults_of_a_body(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The answer reveals nothing about a body that could have the token."""
    database.make_service()
    booked = await book(client)
    readonly = bearer((await make_key(client, "readonly"))["key"])
    for key, code in ((bearer("wrong"), "UNAUTHORIZED"), (readonly, "FORBIDDEN"), (ADMIN, "VALIDATION_FAILED")):
        assert refusal(await cancel(client, booked, key, cancellationToken=1))[1] == code


async def test_a_guest_is_told_the_faults_of_a_body(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Without a key the token is expected in the body, of which a fault is no lack of access."""
    database.make_service()
    booked = await book(client)
    answer = await cancel(client, booked, cancellationToken=booked["cancellationToken"], expectedVersion="1")
    assert faulty_fields(answer) == ["expectedVersion"]


async def test_a_guest_cancels_where_a_key_can_not_be_looked_up(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token in the body decides in place of any key. Without it the answer is that of the look-up."""
    monkeypatch.setattr(connections, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(connections, "pauses", lambda: iter([]))
    database.make_service()
    booked = await book(client)
    readonly = bearer((await make_key(client, "readonly"))["key"])
    with database.admin.transaction():
        database.rows("LOCK TABLE booking.api_keys IN ACCESS EXCLUSIVE MODE")
        assert refusal(await cancel(client, booked, readonly)) == (503, "OVERLOADED")
        canceled = await cancel(client, booked, readonly, cancellationToken=booked["cancellationToken"])
    assert canceled.status_code == 200


async def test_without_a_token_a_key_is_required(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The 401 comes before the faults of a body; a readonly key reads, and only staff may move."""
    database.make_service()
    booked = await book(client)
    readonly, staff = await make_key(client, "readonly"), await make_key(client, "staff")
    assert refusal(await client.get(address(booked))) == (401, "UNAUTHORIZED")
    assert refusal(await client.post(address(booked) + "/reschedule", json={})) == (401, "UNAUTHORIZED")
    assert refusal(await reschedule(client, booked, 14, bearer("wrong"))) == (401, "UNAUTHORIZED")
    assert (await client.get(address(booked), headers=bearer(readonly["key"]))).status_code == 200
    assert refusal(await reschedule(client, booked, 14, bearer(readonly["key"]))) == (403, "FORBIDDEN")
    moved = await reschedule(client, booked, 14, bearer(staff["key"]))
    assert (moved.status_code, moved.json()["slotStart"]) == (200, timestamp(at(14)))
    actor = (await audit_trail(client, booked))[-1]["actor"]
    assert actor == {"kind": "staff", "id": staff["keyId"], "name": "The staff's"}


async def test_a_token_opens_no_other_call(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Neither another appointment nor another call on its own one; beside a key it is ignored there."""
    database.make_service()
    booked = await book(client)
    token = by_token(booked)
    unknown = {"appointmentId": str(uuid4()), **booked} | {"appointmentId": str(uuid4())}
    assert refusal(await client.get(address(unknown), headers=token)) == (404, "APPOINTMENT_NOT_FOUND")
    assert refusal(await reschedule(client, unknown, 14)) == (404, "APPOINTMENT_NOT_FOUND")
    elsewhere = await client.get(address(booked), params={"businessId": "clinic"}, headers=token)
    assert refusal(elsewhere) == (403, "FORBIDDEN")
    for response in (
        await client.get(f"{address(booked)}/audit", headers=token),
        await client.delete(f"{address(booked)}/guest", headers=token),
        await client.patch(address(booked), json={"expectedVersion": 1, "notes": "x"}, headers=token),
    ):
        assert refusal(response) == (401, "UNAUTHORIZED")
    changed = await client.patch(address(booked), json={"expectedVersion": 1, "notes": "x"}, headers=token | ADMIN)
    assert (changed.status_code, changed.json()["notes"]) == (200, "x")
    assert (await audit_trail(client, booked))[-1]["actor"]["kind"] == "admin"


async def test_a_token_of_an_older_secret_still_opens(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """As for a cancellation by the body."""
    database.make_service()
    booked = {"appointmentId": database.book(10).id}
    token = CancellationTokens(SecretStr("an older token")).make("salon", UUID(booked["appointmentId"]))
    assert (await reschedule(client, booked, 14, {"Guest-Token": token})).status_code == 200


# Moves.


async def test_a_guest_moves_by_the_public_rules(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The refusals are those of a reserve, with the reason, and nothing changed; staff are bound by room alone."""
    database.make_service(max_duration_minutes=60, resource_ids=["anna", "bert"])
    database.put_hours([(weekday, "06:00", "20:00") for weekday in range(1, 8)])
    booked = await book(client, resourceId="anna")
    await create(client, 14, resourceId="anna")
    closed = await reschedule(client, booked, 22)
    assert (refusal(closed), closed.json()["reason"]) == ((422, "SLOT_NOT_BOOKABLE"), "closed")
    too_long = await reschedule(client, booked, 12, slotEnd=at(13.5).isoformat())
    assert (refusal(too_long), too_long.json()["reason"]) == ((422, "SLOT_NOT_BOOKABLE"), "too_long")
    taken = await reschedule(client, booked, 14)
    assert (refusal(taken), taken.json()["detail"]) == (
        (409, "SLOT_UNAVAILABLE"),
        "No available capacity for the new time slot",
    )
    assert taken.json()["alternatives"]
    assert refusal(await reschedule(client, booked, 14, resourceId="nobody")) == (404, "RESOURCE_NOT_FOUND")
    assert (await read(client, booked))["version"] == 1
    moved = await reschedule(client, booked, 14, resourceId=None, slotEnd=at(14.5).isoformat())
    assert (moved.json()["resourceId"], moved.json()["slotEnd"]) == ("bert", timestamp(at(14.5)))
    assert (await reschedule(client, booked, 22, ADMIN)).status_code == 200


async def test_an_alternative_of_a_refused_move_can_be_taken(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Also where it overlaps the appointment's own slot."""
    database.make_service(slot_step_minutes=30)
    booked = await book(client, 10)
    await create(client, 11)
    refused = await reschedule(client, booked, 10.5)
    alternatives = refused.json()["alternatives"]
    starts = [alternative["slotStart"] for alternative in alternatives]
    assert timestamp(at(9.5)) in starts
    body = {name: alternatives[starts.index(timestamp(at(9.5)))][name] for name in ("slotStart", "slotEnd")}
    response = await client.post(address(booked) + "/reschedule", json=body, headers=by_token(booked))
    assert response.status_code == 200


async def test_a_move_may_name_its_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """In the body a conflict is a 409, as If-Match a 412; both name the current version."""
    database.make_service()
    booked = await book(client)
    assert (await reschedule(client, booked, 12, expectedVersion=1)).status_code == 200
    in_body = await reschedule(client, booked, 14, expectedVersion=1)
    assert (refusal(in_body), in_body.json()["currentVersion"]) == ((409, "VERSION_CONFLICT"), 2)
    in_header = await reschedule(client, booked, 14, by_token(booked) | {"If-Match": '"1"'})
    assert refusal(in_header) == (412, "VERSION_CONFLICT")
    assert (await reschedule(client, booked, 14, by_token(booked) | {"If-Match": '"2"'})).headers["etag"] == '"3"'


async def test_the_refusal_of_a_late_move_has_the_instant(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It is the instant of the answer to the booking."""
    database.make_service(reschedule_window_minutes=120)
    booked = await book(client)
    database.freeze_clock(at(9))
    refused = await reschedule(client, booked, 14)
    assert refusal(refused) == (409, "RESCHEDULE_WINDOW_CLOSED")
    assert refused.json()["reschedulableUntil"] == booked["reschedulableUntil"] == timestamp(at(8))
    # Guests can still cancel it.
    assert (await cancel(client, booked, by_token(booked))).status_code == 200
    assert refusal(await reschedule(client, booked, 14)) == (409, "APPOINTMENT_ENDED")


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"slotStart": None}, "slotStart"),
        ({"slotStart": "2027-01-11T10:00:00"}, "slotStart"),
        ({"slotStart": "2027-01-11T10:00:00.5Z"}, "slotStart"),
        ({"slotEnd": timestamp(at(14))}, "slotEnd"),
        ({"resourceId": ""}, "resourceId"),
        ({"expectedVersion": 0}, "expectedVersion"),
        ({"quantity": 2}, "quantity"),
        ({"status": "cancelled"}, "status"),
        ({"guestEmail": "eve@example.com"}, "guestEmail"),
    ],
)
async def test_a_faulty_move_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, members: Json, field: str
) -> None:
    """A move has a slot and no other member of an appointment; an end of null counts as left out."""
    database.make_service()
    booked = await book(client)
    assert faulty_fields(await reschedule(client, booked, 14, **members)) == [field]
    assert (await reschedule(client, booked, 14, slotEnd=None)).json()["slotEnd"] == timestamp(at(15))


async def test_a_guest_lists_the_slots_to_move_to(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """By the token of the appointment alone: its own claim takes no room then, and the lists tell when it is."""
    database.make_service(slot_step_minutes=30)
    booked, other = await book(client, 10), await book(client, 13)
    own: Json = {"appointmentId": booked["appointmentId"]}
    cut = {"businessId": "salon", "serviceId": "cut"}
    times = cut | {"from": timestamp(at(9)), "to": timestamp(at(12))}
    dates = cut | {"from": str(at(0).date()), "to": str(at(0).date())}

    async def listed(headers: dict[str, str], members: Json) -> tuple[list[float], int]:
        slots = await client.get(AVAILABILITY, params=times | members, headers=headers)
        days = await client.get(f"{AVAILABILITY}/days", params=dates | members, headers=headers)
        starts = [hour_of_iso(slot["slotStart"]) for slot in slots.json()["slots"]]
        return starts, days.json()["days"][0]["slots"]

    starts, count = await listed({}, {})
    assert starts == [9, 11, 11.5]
    assert await listed(by_token(booked), own) == ([9, 9.5, 10, 10.5, 11, 11.5], count + 3)
    assert await listed(by_token(booked), {}) == (starts, count)
    for query, path in ((times | own, AVAILABILITY), (dates | own, f"{AVAILABILITY}/days")):
        for headers in ({}, ADMIN, by_token(other), {"Guest-Token": ""}):
            assert refusal(await client.get(path, params=query, headers=headers)) == (403, "FORBIDDEN")
        faulty = await client.get(path, params=query | {"appointmentId": "mine"}, headers=by_token(booked))
        assert faulty_fields(faulty) == ["appointmentId"]
    for hour in (9.5, 10.5):
        assert (await reschedule(client, booked, hour)).status_code == 200


async def test_the_slots_to_move_to_are_as_large_as_the_booking(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """They have its length and room for its quantity, as the move has: with the slots of one guest and of the usual
    length, a party was refused at a listed slot, and a long booking became a short one."""
    database.make_service(capacity=4, slot_step_minutes=60)
    booked = await book(client, 10, slotEnd=timestamp(at(12)), quantity=3)
    await book(client, 14, quantity=2)
    query: Json = {"businessId": "salon", "serviceId": "cut", "from": timestamp(at(9)), "to": timestamp(at(17))}
    dates = query | {"from": str(at(0).date()), "to": str(at(0).date())}

    async def listed(**members: object) -> dict[float, float]:
        own = members | {"appointmentId": booked["appointmentId"]}
        slots = (await client.get(AVAILABILITY, params=query | own, headers=by_token(booked))).json()["slots"]
        return {hour_of_iso(slot["slotStart"]): hour_of_iso(slot["slotEnd"]) for slot in slots}

    async def count(**members: object) -> int:
        own = members | {"appointmentId": booked["appointmentId"]}
        days = await client.get(f"{AVAILABILITY}/days", params=dates | own, headers=by_token(booked))
        number: int = days.json()["days"][0]["slots"]
        return number

    assert await listed() == {9: 11, 10: 12, 11: 13, 12: 14, 15: 17, 16: 18}
    assert await listed(quantity=1, durationMinutes=60) == {hour: hour + 1 for hour in range(9, 17)}
    assert await count() == await count(quantity=1) - 2
    assert (await reschedule(client, booked, 13)).status_code == 409
    assert (await reschedule(client, booked, 15)).json()["slotEnd"] == timestamp(at(17))


async def test_the_days_to_move_to_are_as_many_as_those_of_the_booking(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A stay of three nights. One of a length that the service has no more moves to slots of the usual length."""
    nights: Json = {"duration_minutes": None, "min_duration_minutes": None, "max_duration_minutes": None}
    nights |= {"duration_days": 1, "start_times": ["14:00"], "end_time": "11:00"}
    database.make_service(**nights, max_duration_days=3)
    database.rows("UPDATE booking.businesses SET timezone = 'UTC'")
    booked = await book(client, 14, slotEnd=timestamp(at(11, day=3)))
    query = {"businessId": "salon", "serviceId": "cut", "from": timestamp(at(14)), "limit": 1}
    own = query | {"appointmentId": booked["appointmentId"]}

    async def first_end(query: Json) -> str:
        slots = (await client.get(AVAILABILITY, params=query, headers=by_token(booked))).json()["slots"]
        end: str = slots[0]["slotEnd"]
        return end

    assert await first_end(own) == timestamp(at(11, day=3))
    assert await first_end(own | {"durationDays": 2}) == timestamp(at(11, day=2))
    database.make_service(**nights, max_duration_days=2)
    assert await first_end(own) == timestamp(at(11, day=1))


# Limits and browsers.


async def test_guests_calls_count_against_their_client(database: TestDatabase) -> None:
    """As every other public call: a client that tries tokens is limited."""
    database.make_service()
    booked = {"appointmentId": database.book(10).id}
    async with running(database, rate_limit="3/hour") as client:
        wrong = {"Guest-Token": "v1.wrong"}
        answers = [
            await client.get(address(booked), headers=wrong),
            await reschedule(client, booked, 14, wrong),
            await cancel(client, booked, wrong),
            await reschedule(client, booked, 14, wrong),
        ]
    assert [refusal(response) for response in answers] == [(403, "FORBIDDEN")] * 3 + [(429, "RATE_LIMITED")]


async def test_a_page_may_send_the_token(database: TestDatabase) -> None:
    """The preflight of a page of CORS_ORIGINS allows the header."""
    origin = "https://salon.example"
    async with running(database, cors_origins=origin) as client:
        preflight = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "guest-token, content-type",
        }
        response = await client.options(f"{APPOINTMENTS}/{uuid4()}/reschedule", headers=preflight)
    assert response.status_code == 200
    assert "guest-token" in response.headers["access-control-allow-headers"].lower()
