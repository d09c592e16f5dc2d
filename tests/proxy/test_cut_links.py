"""Links between the proxy and its nodes that break at any byte, in both directions."""

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.database.proxying import migrate_proxy
from tests.database import LOGIN, PASSWORD
from tests.faults.proxy import Proxy
from tests.proxy.calls import load
from tests.proxy.conftest import SETTINGS
from tests.proxy.installation import Installation
from tests.serving import ServiceProcess, wait_until

pytestmark = pytest.mark.anyio

_CUTS = 12
# A reserve of four requests and its answer are shorter.
_BYTES = 4000


async def test_links_that_break_at_any_byte_lose_and_repeat_no_hold(servers: Installation, tmp_path: Path) -> None:
    """A batch may break before, during or after its decision on the node. Its requests are sent again."""
    random_bytes = random.Random(7)
    links = [Proxy(server.url("holdfast")) for server in servers.partitions]
    url = servers.proxy.url("cut", f"{LOGIN}:{PASSWORD}")
    servers.proxy.execute("CREATE DATABASE cut")
    async with links[0].running(), links[1].running():
        await asyncio.to_thread(migrate_proxy, servers.proxy.url("cut"), [link.url for link in links], url)
        with ExitStack() as stack:
            service = ServiceProcess(tmp_path / "log", DATABASE_URL=url, **SETTINGS)
            await asyncio.to_thread(stack.enter_context, service)
            businesses = [servers.business(partition, 1500) for partition in range(2)]
            async with service.client(connections=20) as client, load(client, servers, businesses) as both:
                for number in range(_CUTS):
                    link = links[number % 2]
                    link.bytes_left = random_bytes.randrange(_BYTES)
                    await both[1 - number % 2].acknowledge(4)
                    await until_broken(link)
                for clients in both:
                    await clients.acknowledge(20)
            await asyncio.to_thread(stack.close)
    servers.proxy.execute("DROP DATABASE cut WITH (FORCE)")
    assert service.events("defect") == []


async def until_broken(link: Proxy) -> None:
    """Returns when a link that has some bytes left has broken."""
    await asyncio.to_thread(wait_until, lambda: link.bytes_left is None, "a link to break")
