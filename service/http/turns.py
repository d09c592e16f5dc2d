"""The order in which requests begin: a few in each turn, one of each client in turn, and none while others go on.

Requests that arrive together would all run in one iteration of the event loop, each up to its first wait, and a request
that arrives meanwhile would come after all of them. A request that has begun needs several iterations: one for each of
its waits. So a turn is several of them, and only the first begins requests. fq_codel shares a line in the same way
(RFC 8290).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

# The processor time that a turn should take. Much shorter turns make cheap requests dearer.
TURN_SECONDS: Final = 0.001
REQUESTS_OF_TURN: Final = 32
# A turn ends with an iteration that took less: what had begun waits for the database, or is answered. Or after so many,
# since others may always have something to do.
QUIET_SECONDS: Final = 0.00005
ITERATIONS_OF_TURN: Final = 10


class Turns:
    """Begins requests. Requests beyond the limit of a turn wait in a queue of their client, and the clients alternate.

    The limit follows from the time that the last turn took, and at most doubles from one turn to the next.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._most = 1
        self._begun = 0
        # The waiting requests by client; the client whose turn is next comes first, and none has an empty queue.
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        # Clients that began a request at once in this turn, because they had none waiting.
        self._early: set[str] = set()
        self._iteration: asyncio.Handle | None = None
        self._iterations = 0
        self._turn_began = self._iteration_began = 0.0

    def begin(self, client: Callable[[], str], start: Callable[[], None]) -> bool:
        """Starts a request in this turn or a later one, and returns whether it has started. `client` names its client,
        and is asked only if the request may have to wait."""
        if self._iteration is None:
            self._turn_began = self._clock()
            self._begin_iteration(self._turn_began)
        if self._begun < self._most:
            self._begun += 1
            start()
            return True
        name = client()
        if name in self._waiting or name in self._early or len(self._early) == self._most:
            self._waiting.setdefault(name, deque()).append(start)
            return False
        self._early.add(name)
        start()
        return True

    def _begin_iteration(self, now: float) -> None:
        self._iteration_began = now
        self._iterations += 1
        self._iteration = asyncio.get_running_loop().call_soon(self._end_iteration)

    def _end_iteration(self) -> None:
        now = self._clock()
        is_quiet = now - self._iteration_began < QUIET_SECONDS
        if self._waiting and not is_quiet and self._iterations < ITERATIONS_OF_TURN:
            self._begin_iteration(now)
        else:
            self._next_turn(now)

    def _next_turn(self, now: float) -> None:
        took = max(now - self._turn_began, TURN_SECONDS / REQUESTS_OF_TURN)
        self._most = max(1, min(REQUESTS_OF_TURN, 2 * self._begun, int(self._begun * TURN_SECONDS / took)))
        self._turn_began = now
        self._iteration = None
        self._iterations = self._begun = 0
        self._early.clear()
        while self._waiting and self._begun < self._most:
            client = next(iter(self._waiting))
            requests = self._waiting.pop(client)
            start = requests.popleft()
            if requests:
                self._waiting[client] = requests
            self._begun += 1
            start()
        if self._begun:
            self._begin_iteration(now)
