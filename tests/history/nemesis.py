"""The nemesis: it kills, stops and disturbs what the service consists of, one fault after the other, by a seed."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import psycopg

from tests.database import LOGIN
from tests.history.clients import Recorder
from tests.history.postgres import Member
from tests.history.record import Call
from tests.history.stage import Stage
from tests.history.town import TOWN

_PAUSES: Final = (0.3, 2.5)


class Nemesis:
    """Injects faults until it is stopped, each of them once before any comes again."""

    def __init__(self, stage: Stage, recorder: Recorder, seed: int) -> None:
        self._stage = stage
        self._recorder = recorder
        self._random = random.Random(f"{seed}-nemesis")
        self._ahead = 0.0
        self._actions = (
            self.kill_postgres,
            self.restart_postgres,
            self.freeze_postmaster,
            self.kill_backend,
            self.terminate_backend,
            self.freeze_backend,
            self.refuse_connections,
            self.kill_worker,
            self.freeze_worker,
            self.cut_postgres_links,
            self.cut_client_links,
            self.freeze_answers,
            self.hold_lock,
            self.restart_service,
            self.kill_service,
            self.disturb_redis,
            self.move_clock,
            self.move_clock,
        )
        self.injected: Counter[str] = Counter()
        self.latest = "none"
        self.stopped = asyncio.Event()
        # A new service takes seconds to start, beside the other faults.
        self._restart: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Injects faults, with pauses in which the service recovers, at least in part."""
        while True:
            for action in self._random.sample(self._actions, len(self._actions)):
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._random.uniform(*_PAUSES)):
                        await self.stopped.wait()
                if self.stopped.is_set():
                    # No fault is interrupted, because its end belongs to the history.
                    if self._restart:
                        await self._restart
                    return
                self.latest = action.__name__.replace("_", " ")
                if await action():
                    self.injected[self.latest] += 1

    # PostgreSQL. Its supervisor starts it again.

    async def kill_postgres(self) -> bool:
        return _signal(self._server().postmaster(), signal.SIGKILL)

    async def restart_postgres(self) -> bool:
        return _signal(self._server().postmaster(), signal.SIGINT)

    async def freeze_postmaster(self) -> bool:
        """PostgreSQL then accepts no connections, and its backends go on."""
        return await self._freeze(self._server().postmaster())

    async def kill_backend(self) -> bool:
        """PostgreSQL then ends all others, and recovers."""
        return _signal(await self._backend(), signal.SIGKILL)

    async def terminate_backend(self) -> bool:
        return _signal(await self._backend(), signal.SIGTERM)

    async def freeze_backend(self) -> bool:
        return await self._freeze(await self._backend())

    async def refuse_connections(self) -> bool:
        """A server at its limit grants the service no connection, and goes on with those that it has."""
        server = self._server()
        await self._execute(server, f"ALTER ROLE {LOGIN} CONNECTION LIMIT 0")
        await asyncio.sleep(self._random.choice([0.3, 1.5, 4]))
        await self._execute(server, f"ALTER ROLE {LOGIN} CONNECTION LIMIT -1")
        return True

    async def _backend(self) -> int | None:
        backends = await self._server().backends()
        return self._random.choice(backends) if backends else None

    def _server(self) -> Member:
        """Chooses a server, and adds its name to that of the fault."""
        server = self._random.choice(self._stage.postgres.servers)
        self.latest += f" of {server.name}"
        return server

    # The service.

    async def kill_worker(self) -> bool:
        return _signal(self._worker(), signal.SIGKILL)

    async def freeze_worker(self) -> bool:
        return await self._freeze(self._worker())

    def _worker(self) -> int | None:
        workers = sorted(self._stage.service.worker_pids())
        return self._random.choice(workers) if workers else None

    async def restart_service(self) -> bool:
        return self._begin(self._stage.restart_service)

    async def kill_service(self) -> bool:
        return self._begin(self._stage.kill_service)

    def _begin(self, restart: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        if self._restart and not self._restart.done():
            return False
        if self._restart:
            self._restart.result()
        self._restart = asyncio.create_task(restart())
        return True

    # The network.

    async def cut_postgres_links(self) -> bool:
        for _ in range(self._random.randint(1, 12)):
            self._stage.to_postgres.bytes_left = self._random.randrange(8000)
            await asyncio.sleep(self._random.uniform(0.02, 0.3))
        self._stage.to_postgres.bytes_left = None
        return True

    async def cut_client_links(self) -> bool:
        for _ in range(self._random.randint(1, 12)):
            self._stage.to_service.bytes_left = self._random.randrange(4000)
            await asyncio.sleep(self._random.uniform(0.02, 0.2))
        self._stage.to_service.bytes_left = None
        return True

    async def freeze_answers(self) -> bool:
        """Holds the answers of PostgreSQL back, and sometimes breaks the connections before they arrive."""
        self._stage.to_postgres.freeze()
        try:
            await asyncio.sleep(self._random.uniform(0.2, 2))
            if self._random.random() < 0.5:
                await self._stage.to_postgres.cut()
        finally:
            self._stage.to_postgres.thaw()
        return True

    # The rest.

    async def hold_lock(self) -> bool:
        """Holds the lock of a business, sometimes for longer than calls wait for it."""
        business = self._random.choice(list(TOWN.offers))
        with suppress(psycopg.OperationalError):
            async with await self._stage.postgres.node_of(business).connect() as connection, connection.transaction():
                await connection.execute(
                    "SELECT FROM booking.businesses WHERE business_id = %s FOR NO KEY UPDATE", [business]
                )
                await asyncio.sleep(self._random.choice([0.3, 1, 2.5]))
                return True
        return False

    async def disturb_redis(self) -> bool:
        redis = self._stage.redis
        if redis is None:
            return False
        if self._random.random() < 0.5:
            redis.kill()
            await asyncio.sleep(self._random.uniform(0.1, 1.5))
            await asyncio.to_thread(redis.start)
        else:
            redis.freeze()
            try:
                await asyncio.sleep(self._random.uniform(0.1, 1.5))
            finally:
                redis.thaw()
        return True

    async def move_clock(self) -> bool:
        """Moves the clock forward, past the expiry of most holds or of few. Returns when it surely was moved."""
        step = self._random.choice([2.0, 10.0, 45.0, 90.0])
        number, started = self._recorder.number(), self._recorder.now()
        self._ahead += step
        for server in self._stage.postgres.servers:
            await self._execute(server, f"UPDATE testing.clock SET ahead = make_interval(secs => {self._ahead})")  # noqa: S608
        ended = self._recorder.now()
        self._recorder.add(Call(number, "move_clock", "", {"seconds": step}, started, ended, 200))
        return True

    async def _execute(self, server: Member, statement: str) -> None:
        """Runs a statement on a server as superuser, as soon as that is up."""
        while True:
            with suppress(psycopg.OperationalError):
                async with await server.connect() as connection:
                    await connection.execute(statement.encode())
                    return
            await asyncio.sleep(0.05)

    async def _freeze(self, pid: int | None) -> bool:
        """Stops a process for a while, as a busy machine does."""
        if not _signal(pid, signal.SIGSTOP):
            return False
        try:
            await asyncio.sleep(self._random.choice([0.2, 1, 3.2]))
        finally:
            _signal(pid, signal.SIGCONT)
        return True


def _signal(pid: int | None, number: int) -> bool:
    """Sends a signal to a process of the stage, and returns whether it was there."""
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
