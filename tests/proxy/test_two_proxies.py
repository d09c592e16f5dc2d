"""Two proxies in front of the same nodes, which know nothing of each other."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.types.json import Jsonb

from service.database.proxying import migrate_proxy
from tests.database import LOGIN, NO_DEADLINE, PASSWORD
from tests.proxy.calls import NUMBERS
from tests.proxy.installation import Installation

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def proxies(servers: Installation) -> Iterator[list[str]]:
    """Returns the URLs of two proxies. A database of its own is one, because locks of another database don't count."""
    second = servers.proxy.url("second", f"{LOGIN}:{PASSWORD}")
    servers.proxy.execute("CREATE DATABASE second")
    migrate_proxy(servers.proxy.url("second"), servers.migration_urls[1:], second)
    yield [servers.url, second]
    servers.proxy.execute("DROP DATABASE second WITH (FORCE)")


def put(proxy_url: str, business_id: str, slug: str) -> str | None:
    """Puts a business with a slug, and returns the SQLSTATE of a refusal."""
    business = Jsonb({"name": business_id, "timezone": "UTC", "slug": slug})
    with psycopg.connect(proxy_url, autocommit=True) as proxy:
        try:
            proxy.execute("SELECT booking.put_business(%s, %s, %s)", [business_id, business, NO_DEADLINE])
        except psycopg.Error as error:
            return error.sqlstate
    return None


def strays(servers: Installation) -> list[tuple[str, str]]:
    """Returns the slugs that lead elsewhere than their businesses, or nowhere."""
    return servers.rows(servers.proxy, "SELECT slug, business_id FROM booking.stray_slugs()")


async def test_of_businesses_that_want_a_slug_through_two_proxies_one_gets_it(
    servers: Installation, proxies: list[str]
) -> None:
    """The node of the slug decides: the others are refused, and leave nothing behind."""
    for number in range(6):
        slug = servers.business(number % 2, next(NUMBERS))
        ids = [servers.business(one % 2, next(NUMBERS)) for one in range(8)]
        puts = (asyncio.to_thread(put, proxies[one // 2 % 2], business_id, slug) for one, business_id in enumerate(ids))
        refusals = await asyncio.gather(*puts)
        assert sorted(refusals, key=str) == ["HF003"] * 7 + [None]
        assert strays(servers) == []
        named = servers.rows(servers.proxy, "SELECT business_id FROM booking.businesses_named(%s)", [slug])
        assert named == [(ids[refusals.index(None)],)]
