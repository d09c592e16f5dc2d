"""The live holds of a client: when the first of them ends, and which there are."""

from datetime import timedelta
from typing import Any

from psycopg.types.json import Jsonb

from tests.database import NO_DEADLINE, TestDatabase, reserve_request

CAP = 3


def client(address: str = "address", client_id: str | None = None, **request: Any) -> dict[str, Any]:
    """Returns the members of a request that identify and limit a client."""
    return {"client_address_hmac": address, "client_id_hmac": client_id, "max_live_holds": CAP, **request}


def test_a_refusal_tells_when_the_first_hold_of_the_client_ends(database: TestDatabase) -> None:
    """By its address or its id. Holds that have ended, and those of others, do not count; fractions are rounded up."""
    database.make_service(capacity=10)
    database.make_service(business_id="clinic")
    database.freeze_clock()
    database.reserve(8, **client("other", ttl_minutes=1))
    database.reserve(8, business_id="clinic", **client(client_id="id", ttl_minutes=3))
    released = database.reserve(8, **client(client_id="id", ttl_minutes=2))
    for minutes in (9, 5.01, 7):
        database.reserve(9, **client(client_id="id", ttl_minutes=minutes))
        database.release(released.id)
    for address, client_id in (("address", None), ("address", "new"), ("elsewhere", "id")):
        refused = database.reserve(10, **client(address, client_id))
        assert (refused.name, refused.body) == ("too_many_holds", {"retry_after_seconds": 301})
    database.move_clock(timedelta(minutes=5.01))
    assert database.reserve(10, **client(client_id="id", ttl_minutes=0.5)).name == "done"
    for address, client_id in (("address", None), ("elsewhere", "id")):
        assert database.reserve(10, **client(address, client_id)).body == {"retry_after_seconds": 30}


def test_holds_of_the_same_call_tell_when_to_ask_again(database: TestDatabase) -> None:
    """They are all that the client has."""
    database.make_service(capacity=10)
    database.freeze_clock()
    requests = [reserve_request(hour, **client(ttl_minutes=hour + 1)) for hour in range(CAP + 1)]
    assert database.call("reserve", requests)[-1].body == {"retry_after_seconds": 60}


def test_holds_of_the_same_call_in_another_business_tell_nothing(database: TestDatabase) -> None:
    """Each business counts by itself."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, capacity=10)
    database.freeze_clock()
    batches = [
        Jsonb({"reserve": [reserve_request(10, **client(ttl_minutes=minutes)) for _ in range(CAP + 1)]})
        for minutes in (10, 1)
    ]
    bodies = database.rows(
        "SELECT body FROM booking.execute('{salon,clinic}', %s, %s) WHERE outcome = 'too_many_holds'",
        *(batches, NO_DEADLINE),
    )
    assert sorted(body["retry_after_seconds"] for (body,) in bodies) == [60, 600]


def test_the_holds_of_a_client_are_listed_by_their_end(database: TestDatabase) -> None:
    """Live ones only, of one business, made with its id from any address."""
    database.freeze_clock()
    database.make_service(capacity=200)
    database.make_service(business_id="clinic")
    held = [database.reserve(10, **client(f"a {n}", "id", ttl_minutes=n + 1, max_live_holds=999)) for n in range(3)]
    database.reserve(10, business_id="clinic", **client("a", "id"))
    database.reserve(10, **client("a", "other"))
    released, committed = (database.reserve(12, **client("b", "id", max_live_holds=999)) for _ in range(2))
    database.release(released.id)
    database.commit(committed.id)
    database.move_clock(timedelta(minutes=1))
    listed = database.rows("SELECT booking.holds_of_client('salon', 'id')")
    assert [hold["reservation_id"] for (hold,) in listed] == [hold.id for hold in held[1:]]
    assert {hold["status"] for (hold,) in listed} == {"held"}
    for _ in range(110):
        database.reserve(14, **client(client_id="id", max_live_holds=999, ttl_minutes=5))
    assert len(database.rows("SELECT booking.holds_of_client('salon', 'id')")) == 100
