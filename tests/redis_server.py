"""A real Redis that a test may kill, freeze, wipe and start again."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from service.sharing.store import Store
from tests.serving import REPOSITORY, free_port, wait_until

PROGRAM: Final = shutil.which("redis-server")


class RedisServer:
    """A server without persistence: killing it loses all data. As a context manager it runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.client.close()

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        assert PROGRAM
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._folder}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.DEVNULL)
        wait_until(self._answers, "Redis to answer")

    def kill(self) -> None:
        """Sends SIGKILL. Has no effect if the server has ended."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops it with SIGSTOP: it accepts connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continues it with SIGCONT."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisConnectionError:
            return False


def patient_with_redis(folder: Path) -> dict[str, object]:
    """Returns settings of a service that waits for Redis for as long as a busy machine takes. Writes into a folder."""
    (folder / "sitecustomize.py").write_text("from service.sharing import store\nstore.TIMEOUT_SECONDS = 20\n")
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}"}


@asynccontextmanager
async def sharing(redis: RedisServer) -> AsyncIterator[Store]:
    """Makes a store that has found its Redis."""
    store = Store(SecretStr(redis.url))
    watch = asyncio.create_task(store.watch())
    try:
        await until_up(store)
        yield store
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await store.close()


async def until_up(store: Store) -> None:
    """Returns when a store has found its Redis."""
    async with asyncio.timeout(20):
        while not store.up:  # noqa: ASYNC110 — a store has no event for it
            await asyncio.sleep(0.001)


async def until_both_listen(redis: RedisServer) -> None:
    """Returns when two feeds wait for entries of the stream."""
    await asyncio.to_thread(
        wait_until, lambda: sum(client["cmd"] == "xread" for client in redis.client.client_list()) == 2, "two readers"
    )
