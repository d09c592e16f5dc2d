"""`description` and `metadata` of the catalog: what frontends show, with their bounds."""

import itertools
import json
from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.refusals import faulty_fields

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
ENTRIES: dict[str, Json] = {
    SALON: {"name": "Salon"},
    f"{SALON}/resources/anna": {"name": "Anna"},
    f"{SALON}/services/cut": {"name": "Cut", "durationMinutes": 45},
}
OTHER_TEXTS: list[Any] = [1, ["a"], "a\0"]
OTHER_OBJECTS: list[Any] = ["a", [], [{}], 1, {"a": "\0"}, {"\0": 1}]


@pytest.fixture(params=ENTRIES)
def path(request: pytest.FixtureRequest, database: TestDatabase) -> str:
    """Runs the test for each kind of entry."""
    database.make_business()
    return str(request.param)


async def put(client: httpx2.AsyncClient, path: str, **members: Any) -> httpx2.Response:
    """Puts an entry with more members than it needs."""
    content = json.dumps({**ENTRIES[path], **members})
    return await client.put(path, content=content, headers={**ADMIN, "Content-Type": "application/json"})


def nested(levels: int) -> Json:
    """Returns an object of this many levels."""
    value: Json = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


async def test_they_are_null_when_left_out(client: httpx2.AsyncClient, path: str) -> None:
    """A PUT without them, or with null, removes the former ones."""
    for absent in ({}, {"description": None, "metadata": None}):
        full = (await put(client, path, description="Text", metadata={"a": 1})).json()
        assert (full["description"], full["metadata"]) == ("Text", {"a": 1})
        least = (await put(client, path, **absent)).json()
        assert (least["description"], least["metadata"]) == (None, None)
        assert (await client.get(path, headers=ADMIN)).json() == least


@pytest.mark.parametrize(
    ("member", "largest", "too_large"),
    [
        ("description", "x" * 4096, "x" * 4097),
        ("description", "ä" * 2048, "ä" * 2048 + "x"),
        ("metadata", {"a": "x" * 4088}, {"a": "x" * 4089}),
        ("metadata", nested(100), nested(101)),
        ("metadata", {str(n): n for n in range(100)}, {str(n): n for n in range(101)}),
    ],
    ids=["text", "bytes", "json", "levels", "members"],
)
async def test_both_are_bounded(
    client: httpx2.AsyncClient, path: str, member: str, largest: Any, too_large: Any
) -> None:
    """The largest value is stored, can be put as it was read, and is listed; the next one is refused."""
    read = (await put(client, path, **{member: largest})).json()
    assert read[member] == largest
    assert (await put(client, path, **read)).json() == read
    assert read in (await client.get(path.rpartition("/")[0], headers=ADMIN)).json()["items"]
    assert faulty_fields(await put(client, path, **{member: too_large})) == [member]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *itertools.product(["description"], OTHER_TEXTS),
        *itertools.product(["metadata"], OTHER_OBJECTS),
        ("metadata", {"a": float("nan")}),
        ("metadata", {"a": [1e300] * 14}),
    ],
)
async def test_other_values_are_refused(client: httpx2.AsyncClient, path: str, member: str, value: Any) -> None:
    """A large number counts as it is answered, so that what was read can be put."""
    assert {field.partition(".")[0] for field in faulty_fields(await put(client, path, **{member: value}))} <= {
        member,
        "",
    }


async def test_large_numbers_can_be_put_as_they_are_read(client: httpx2.AsyncClient, path: str) -> None:
    """PostgreSQL writes 1e23 in full."""
    read = (await put(client, path, metadata={"a": [1e23, -1.5e300, 5e-324]})).json()
    assert read["metadata"] == {"a": [10**23, -15 * 10**299, 5e-324]}
    assert (await put(client, path, **read)).json() == read
