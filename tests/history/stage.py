"""What a run needs beside PostgreSQL: a Redis, the service with two workers, and TCP proxies between them."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2

from tests.faults.proxy import Proxy
from tests.history.postgres import Postgres
from tests.history.sabotage import Sabotage
from tests.redis_server import PROGRAM, RedisServer
from tests.serving import NO_CERTIFICATES, SECRETS, ServiceProcess

_SETTINGS: Final[Mapping[str, object]] = {"WORKERS": 2, "RATE_LIMIT_ENABLED": False}
_CONNECTIONS: Final = 64


class Stage:
    """The processes of a run. All of them were started by it, and are stopped at its end."""

    def __init__(self, postgres: Postgres, logs: Path, settings: Mapping[str, object]) -> None:
        self.postgres = postgres
        self._logs = logs
        self._settings = {**_SETTINGS, **postgres.settings, **settings}
        self._services = 0
        self.to_postgres = Proxy(postgres.url)
        self.to_service = Proxy("http://127.0.0.1:1")
        self.redis: RedisServer | None = None
        self.service: ServiceProcess

    @classmethod
    @asynccontextmanager
    async def running(
        cls, postgres: Postgres, folder: Path, sabotage: Sabotage | None = None
    ) -> AsyncIterator["Stage"]:
        """Starts everything, with logs in a folder; with a sabotage, on databases that are broken by it."""
        async with AsyncExitStack() as stack:
            # Group commit sends one call of a business at a time, which hides a missing lock.
            is_alone = sabotage is not None and not sabotage.needs_faults
            stage = cls(postgres, folder, {"MAX_BATCH": 1} if is_alone else {})
            if sabotage:
                for node in postgres.nodes:
                    await asyncio.to_thread(sabotage.apply, node.url)
            if PROGRAM:
                stage.redis = stack.enter_context(RedisServer(folder))
            await stack.enter_async_context(stage.to_postgres.running())
            await stack.enter_async_context(stage.to_service.running())
            await stage._replace_service()
            try:
                yield stage
            finally:
                await asyncio.to_thread(stage.service.kill)

    async def _start_service(self) -> ServiceProcess:
        self._services += 1
        redis = {"REDIS_URL": self.redis.url} if self.redis else {}
        # Every second service purges all the time. The others never do: a purge hides errors about expired holds.
        purge = {"CLEANUP_INTERVAL_SECONDS": int(self._services % 2 == 0)}
        log = self._logs / f"service-{self._services}.log"
        service = ServiceProcess(log, **SECRETS | redis | purge | self._settings, DATABASE_URL=self.to_postgres.url)
        try:
            await asyncio.to_thread(service.wait_until_ready)
        except BaseException:
            service.kill()
            raise
        return service

    async def restart_service(self) -> None:
        """Starts a new service, sends new connections there, and ends the old one when its requests are answered."""
        former = self.service
        await self._replace_service()
        await asyncio.to_thread(stop, former)

    async def kill_service(self) -> None:
        """Kills the service with its workers, and starts a new one."""
        self.service.kill()
        await self._replace_service()

    async def _replace_service(self) -> None:
        while True:
            try:
                self.service = await self._start_service()
                break
            except AssertionError:
                # It ends if PostgreSQL is down when it looks for migrations. Then its supervisor starts it again.
                for server in self.postgres.servers:
                    await server.until_it_answers()
        self.to_service.turn_to(self.service.url)

    async def settle(self) -> None:
        """Stops the service, waits until PostgreSQL has ended what it left, and starts the service again."""
        await asyncio.to_thread(stop, self.service)
        for server in self.postgres.servers:
            await server.until_unused()
        await self._replace_service()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Opens connections to the service, through the proxy."""
        # A connection that the proxy broke must not be used again: the time that one is kept is short.
        limits = httpx2.Limits(max_connections=_CONNECTIONS, keepalive_expiry=1.0)
        url = f"http://127.0.0.1:{self.to_service.port}"
        async with httpx2.AsyncClient(
            base_url=url, limits=limits, timeout=30, trust_env=False, verify=NO_CERTIFICATES
        ) as client:
            yield client
        # The client forgets a connection whose call ends while it is made, and Python warns when it closes that.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def stop(service: ServiceProcess) -> None:
    """Ends a service as an operator does, and waits for its end."""
    service.terminate()
    status = service.wait()
    assert status == 0, f"the service ended with {status}: {service.log()[-2000:]}"
