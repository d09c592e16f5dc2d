"""The order in which requests begin: how many in a turn of the event loop, and of whom."""

import asyncio
from itertools import pairwise

import pytest

from service.http.turns import ITERATIONS_OF_TURN, QUIET_SECONDS, REQUESTS_OF_TURN, TURN_SECONDS, Turns

pytestmark = pytest.mark.anyio


class Begun:
    """The clients of requests, in the order in which they begin.

    Each request takes some seconds at once, and as many in each of the next iterations of the loop.
    """

    def __init__(self, seconds: float = 0.0, iterations: int = 0) -> None:
        self._seconds = seconds
        self._iterations = iterations
        self.now = 0.0
        self.turns = Turns(lambda: self.now)
        self.clients: list[str] = []

    def request(self, client: str, count: int = 1) -> None:
        """Adds requests of a client."""
        for _ in range(count):
            self.turns.begin(lambda: client, lambda: self._start(client))

    def _start(self, client: str) -> None:
        self.clients.append(client)
        self._go_on(self._iterations)

    def _go_on(self, iterations: int) -> None:
        self.now += self._seconds
        if iterations:
            asyncio.get_running_loop().call_soon(self._go_on, iterations - 1)

    async def sizes(self) -> list[int]:
        """Returns how many requests begin in each iteration that begins any, from the last one on until none waits."""
        counts = [0, len(self.clients)]
        while self.turns._waiting:
            await asyncio.sleep(0)
            counts.append(len(self.clients))
        return [after - before for before, after in pairwise(counts) if after > before]


async def test_a_request_begins_at_once() -> None:
    """And the next one of the same client in the next turn."""
    begun = Begun()
    for number in range(1, 4):
        begun.request("a")
        assert begun.clients == ["a"] * number
        await asyncio.sleep(0)


async def test_a_turn_begins_twice_as_many_cheap_requests_as_the_last_one() -> None:
    """Up to a bound, and after them no turn is taken."""
    begun = Begun()
    begun.request("a", 3 * REQUESTS_OF_TURN + 1)
    assert await begun.sizes() == [2, 2, 4, 8, 16, 32, 32, 1]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun.turns._iteration is None


@pytest.mark.parametrize(("turns_of_request", "most"), [(0.3, 3), (1, 1), (20, 1)])
async def test_a_turn_takes_its_time(turns_of_request: float, most: int) -> None:
    """Of dear requests few begin, and of the dearest one."""
    begun = Begun(turns_of_request * TURN_SECONDS)
    begun.request("a", 40)
    sizes = await begun.sizes()
    assert sum(sizes) == 40
    assert max(sizes[1:]) == most


async def test_a_turn_is_measured_from_its_beginning() -> None:
    """Also one in which no request is left to wait: the next request comes in the same turn, and counts its time."""
    begun = Begun(TURN_SECONDS / 4)
    begun.request("a", 8)
    assert await begun.sizes() == [2, 2, 4]
    begun.request("a", 10)
    assert await begun.sizes() == [9, 3, 3, 3]


@pytest.mark.parametrize(("iterations", "taken"), [(0, 2), (3, 5), (100, ITERATIONS_OF_TURN)])
async def test_a_turn_lasts_until_what_has_begun_waits(iterations: int, taken: int) -> None:
    """That is until an iteration has nothing to do, or until it has had its number of iterations."""
    begun = Begun(QUIET_SECONDS, iterations)
    begun.request("a", 3)
    for _ in range(taken):
        assert len(begun.clients) == 2
        await asyncio.sleep(0)
    assert len(begun.clients) == 3


async def test_a_client_begins_one_request_beside_those_whose_turn_it_is() -> None:
    """At once, if it has none waiting. Its next ones wait like those of the others, and so does the next client."""
    begun = Begun(TURN_SECONDS, ITERATIONS_OF_TURN)
    begun.request("greedy", 10)
    await asyncio.sleep(0)
    assert begun.clients == ["greedy", "greedy"]
    for _ in range(ITERATIONS_OF_TURN - 1):
        await asyncio.sleep(0)
    begun.request("greedy")
    begun.request("b", 2)
    begun.request("c", 2)
    assert begun.clients == ["greedy", "greedy", "greedy", "b"]
    await begun.sizes()
    assert begun.clients[4:8] == ["greedy", "b", "c", "greedy"]


@pytest.mark.parametrize("seconds", [0, TURN_SECONDS / 4])
async def test_a_client_does_not_wait_for_the_requests_of_another(seconds: float) -> None:
    """Whenever it comes, its request begins at once, and its next one after those of one turn at most."""
    begun = Begun(seconds)
    begun.request("greedy", 2000)
    for other in ("b", "c", "d"):
        for _ in range(3):
            await asyncio.sleep(0)
        ahead = len(begun.clients)
        begun.request(other, 2)
        assert begun.clients[ahead:] == [other]
        for _ in range(ITERATIONS_OF_TURN):
            await asyncio.sleep(0)
        _, second = (position for position, client in enumerate(begun.clients) if client == other)
        assert second - ahead <= REQUESTS_OF_TURN + 1
    await begun.sizes()
    assert len(begun.clients) == 2006


async def test_a_request_that_fails_takes_no_other_with_it() -> None:
    """The error goes to the event loop, and the others begin with the next request."""
    begun = Begun(TURN_SECONDS)
    begun.request("a", 2)
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    begun.turns.begin(lambda: "a", lambda: 1 / 0)  # type: ignore[arg-type]  # it returns nothing
    begun.request("a", 2)
    for _ in range(2 * ITERATIONS_OF_TURN):
        await asyncio.sleep(0)
    assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
    begun.request("b")
    await begun.sizes()
    assert begun.clients == ["a", "a", "b", "a", "a"]
