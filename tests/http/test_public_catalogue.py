"""The public catalogue over HTTP: found by the slug, without a key, with a tag of its content."""

import json

import httpx2
import pytest

from tests.database import TestDatabase
from tests.http.conftest import ADMIN, running
from tests.http.describing import Json
from tests.http.refusals import refusal

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
PUBLIC = "/api/v1/public/salon-rosa"


@pytest.fixture
async def salon(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.AsyncClient:  # noqa: ARG001
    """Makes a salon with a member of staff and a service."""
    await put(client, "", {"name": "Salon Rosa", "slug": "salon-rosa", "timezone": "Europe/Berlin"})
    await put(client, "/resources/anna", {"name": "Anna", "kind": "staff"})
    await put(client, "/services/cut", {"name": "Cut", "durationMinutes": 45, "resourceIds": ["anna"]})
    return client


async def put(client: httpx2.AsyncClient, path: str, body: Json) -> None:
    """Puts an entry of the salon."""
    response = await client.put(SALON + path, json=body, headers=ADMIN)
    assert response.status_code in (200, 201), response.text


async def read(client: httpx2.AsyncClient, tag: str | None = None, **headers: str) -> httpx2.Response:
    """Reads the catalogue, with the tag of what is known."""
    return await client.get(PUBLIC, headers=headers | ({"If-None-Match": tag} if tag else {}))


async def test_it_is_read_without_a_key(salon: httpx2.AsyncClient) -> None:
    """The members are in camelCase, and a HEAD is answered too."""
    response = await read(salon)
    assert response.status_code == 200
    assert set(response.json()) == {"business", "services", "resources"}
    assert response.json()["business"] == {
        "businessId": "salon",
        "name": "Salon Rosa",
        "slug": "salon-rosa",
        "timezone": "Europe/Berlin",
        "country": None,
        "description": None,
        "metadata": None,
    }
    [service] = response.json()["services"]
    assert (service["minDurationMinutes"], service["slotStepMinutes"], service["maxQuantity"]) == (45, 45, 1)
    assert service["resourceIds"] == [resource["resourceId"] for resource in response.json()["resources"]] == ["anna"]
    assert (await salon.head(PUBLIC)).headers["etag"] == response.headers["etag"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{}', "*", " * "])
async def test_known_content_is_not_sent_again(salon: httpx2.AsyncClient, form: str) -> None:
    """The 304 has the same headers and no body; caches may keep the answer, and must revalidate it."""
    full = await read(salon)
    assert full.headers["cache-control"] == "no-cache"
    known = await read(salon, form.format(full.headers["etag"]))
    assert (known.status_code, known.content) == (304, b"")
    assert not {"content-length", "content-type"} & set(known.headers)
    for name in ("etag", "cache-control"):
        assert known.headers[name] == full.headers[name]


@pytest.mark.parametrize("form", ["", '""', '"other"', "{unquoted}", '"*"', '"{unquoted}', "x{unquoted}x"])
async def test_other_content_is_sent(salon: httpx2.AsyncClient, form: str) -> None:
    """A malformed tag is none."""
    unquoted = (await read(salon)).headers["etag"].strip('"')
    assert (await read(salon, form.format(unquoted=unquoted) or None)).status_code == 200


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("", {"name": "Salon Rosa", "slug": "salon-rosa", "metadata": {"a": 1}}),
        ("/resources/anna", {"name": "Anna", "seats": 2}),
        ("/services/cut", {"name": "Cut", "durationMinutes": 45, "bookingEnabled": False}),
    ],
)
async def test_every_change_has_another_tag(salon: httpx2.AsyncClient, path: str, change: Json) -> None:
    """A client that has the former content gets the new one at once."""
    former = await read(salon)
    await put(salon, path, change)
    response = await read(salon, former.headers["etag"])
    assert response.status_code == 200
    assert response.headers["etag"] != former.headers["etag"]
    assert response.json() != former.json()


@pytest.mark.parametrize("slug", ["nobody", "Salon", "SALON-ROSA", "s" * 65, "%00", "%C3%A4"])
async def test_an_unknown_slug_is_a_404(salon: httpx2.AsyncClient, slug: str) -> None:
    """The error is a problem, as of every call that is not the widget's."""
    response = await salon.get(f"/api/v1/public/{slug}", headers={"If-None-Match": "*"})
    assert refusal(response) == (404, "BUSINESS_NOT_FOUND")
    assert response.headers["content-type"] == "application/problem+json"
    assert "etag" not in response.headers


async def test_a_business_without_its_slug_is_unknown(salon: httpx2.AsyncClient) -> None:
    """The slug is gone with the PUT that leaves it out."""
    await put(salon, "", {"name": "Salon Rosa"})
    assert refusal(await read(salon)) == (404, "BUSINESS_NOT_FOUND")


async def test_the_largest_metadata_is_shown(salon: httpx2.AsyncClient) -> None:
    """What a PUT accepts can be read, also within the catalogue."""
    largest = {"description": "x" * 4096, "metadata": json.loads('{"a":' * 99 + "{}" + "}" * 99)}
    await put(salon, "", {"name": "Salon Rosa", "slug": "salon-rosa", **largest})
    await put(salon, "/resources/anna", {"name": "Anna", **largest})
    await put(salon, "/services/cut", {"name": "Cut", "durationMinutes": 45, "resourceIds": ["anna"], **largest})
    body = (await read(salon)).json()
    for entry in (body["business"], *body["services"], *body["resources"]):
        assert {name: entry[name] for name in largest} == largest


async def test_requests_are_limited(database: TestDatabase) -> None:
    """Each counts against the limit of its client, also when its answer is a 304."""
    async with running(database, rate_limit="2/minute") as client:
        await put(client, "", {"name": "Salon Rosa", "slug": "salon-rosa"})
        answers = [await read(client, "*") for _ in range(3)]
    assert [response.status_code for response in answers] == [304, 304, 429]
    assert answers[0].headers["ratelimit-limit"] == "2"
    assert refusal(answers[2]) == (429, "RATE_LIMITED")
