"""An event loop in which time is simulated, and in which a seed decides the order of what could run at one moment."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")

# Timers of one moment run in a random order.
_JITTER_SECONDS = 1e-6


class Stalled(Exception):
    """Nothing can run any more, and no timer is left."""


_task_numbers = itertools.count()


class _Task(asyncio.Task[Any]):
    """A task with a hash that does not depend on its address, so that sets of tasks have the same order in each run."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._number = next(_task_numbers)
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs what is ready in a random order, and jumps to the next timer when nothing is."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._now = 0.0
        self._selector = self  # what the base class waits with
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))
        self.set_task_factory(lambda loop, coroutine, **options: _Task(coroutine, loop=loop, **options))
        # By port, what opens a connection to a simulated server.
        self.listeners: dict[int, Callable[[Any], Awaitable[asyncio.Transport]]] = {}

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """Lets the time pass until the next timer."""
        if timeout is None:
            raise Stalled
        self._now += timeout
        return []

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_at(when + self._random.uniform(0, _JITTER_SECONDS), callback, *args, context=context)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str | None = None,  # noqa: ARG002 — all are on one
        port: int = 0,
        **_: object,
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connects to a simulated server."""
        protocol = protocol_factory()
        return await self.listeners[port](protocol), protocol

    def _run_once(self) -> None:
        # The base class runs these in their order. Neither name is in its type.
        self._random.shuffle(self._ready)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def simulate(seed: int, main: Callable[[SimulatedLoop], Coroutine[Any, Any, None]]) -> SimulatedLoop:
    """Runs a coroutine to its end in simulated time, and returns the loop, for its failures."""
    loop = SimulatedLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(loop))
    return loop


def first_failure(run: Callable[[int], object], seeds: Iterable[int]) -> tuple[int, BaseException] | None:
    """Runs simulations until one breaks a rule, and returns its seed and the error."""
    for seed in seeds:
        try:
            run(seed)
        except (AssertionError, Stalled, ExceptionGroup) as error:
            return seed, error
    return None
