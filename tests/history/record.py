"""A history: the calls of all clients with their answers, as JSON lines, and the clock of the service during them."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

# How far the clock of PostgreSQL may differ from ours, on one machine, with its instants cut to milliseconds.
CLOCK_TOLERANCE_SECONDS: Final = 0.02

# How long after its end a call without an answer may still have its effect: the service sends none after ten seconds,
# and PostgreSQL decides none after the deadline of the call. The rest is for processes that are stopped meanwhile.
SETTLE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call: what was sent, and what came back. Times are seconds since the start of the history.

    `status` is None if no answer came. `answer` is the body of the answer.
    """

    number: int
    kind: str
    business: str
    request: dict[str, Any]
    started: float
    ended: float
    status: int | None
    answer: dict[str, Any] = field(default_factory=dict)
    client: int = 0

    @property
    def code(self) -> str:
        """The code of the refusal; that of the booking widget has a name and a place of its own."""
        problem = self.answer.get("error") or self.answer
        code = str(problem.get("code", ""))
        return "SLOT_UNAVAILABLE" if code == "TIME_CONFLICT" else code

    @property
    def is_acknowledged(self) -> bool:
        return self.status is not None and self.status < 300

    @property
    def is_refused(self) -> bool:
        """Whether the answer rules out an effect of the call."""
        return self.status is not None and (300 <= self.status < 500 or self.code == "OVERLOADED")

    @property
    def is_unknown(self) -> bool:
        return not self.is_acknowledged and not self.is_refused

    @property
    def request_id(self) -> str:
        """The id that was sent as X-Request-Id, which the audit trail repeats."""
        return f"call-{self.number}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A service: its default length in minutes, its buffers, and what its claims take room of."""

    minutes: int
    capacity: int | None = None
    pool: tuple[str, ...] = ()
    shares: bool = False
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class Town:
    """The services of each business, and the seats of its resources."""

    offers: dict[str, dict[str, Offer]]
    seats: dict[str, dict[str, int]]

    @classmethod
    def read(cls, written: dict[str, Any]) -> Self:
        """Reads what `asdict` and JSON made of a town."""
        offers = {
            business: {name: Offer(**{**offer, "pool": tuple(offer["pool"])}) for name, offer in services.items()}
            for business, services in written["offers"].items()
        }
        return cls(offers, written["seats"])


class Clock:
    """The service's clock: seconds since the epoch, at a time of the history. It may be moved forward."""

    def __init__(self, origin: float, steps: Iterable[tuple[float, float, float]] = ()) -> None:
        self._origin = origin
        # Each from the moment at which it may have been made to the one at which it was, with its seconds.
        self._steps = sorted(steps)

    def earliest(self, time: float) -> float:
        """Returns the least that the clock can show at a time."""
        return self._origin + time + sum(by for _, until, by in self._steps if until <= time) - CLOCK_TOLERANCE_SECONDS

    def latest(self, time: float) -> float:
        """Returns the most that the clock can show at a time."""
        return self._origin + time + sum(by for since, _, by in self._steps if since <= time) + CLOCK_TOLERANCE_SECONDS

    def surely_before(self, instant: float) -> float:
        """Returns the time until which the clock surely showed less than an instant."""
        ahead = 0.0
        for since, _, by in self._steps:
            reached = instant - self._origin - ahead - CLOCK_TOLERANCE_SECONDS
            if reached <= since:
                return reached
            ahead += by
            if instant - self._origin - ahead - CLOCK_TOLERANCE_SECONDS <= since:
                return since
        return instant - self._origin - ahead - CLOCK_TOLERANCE_SECONDS

    def surely_past(self, instant: float) -> float:
        """Returns the time from which on the clock surely shows an instant or more."""
        ahead = 0.0
        for _, until, by in sorted(self._steps, key=lambda step: step[1]):
            reached = instant - self._origin - ahead + CLOCK_TOLERANCE_SECONDS
            if reached <= until:
                return reached
            ahead += by
            if instant - self._origin - ahead + CLOCK_TOLERANCE_SECONDS <= until:
                return until
        return instant - self._origin - ahead + CLOCK_TOLERANCE_SECONDS


@dataclass
class History:
    """The calls of a run, in the order of their numbers.

    `settled_at` is a time at which no call was under way and none could have its effect any more; reads from then
    on are final. Infinite: there was none.
    """

    town: Town
    origin: float
    calls: list[Call] = field(default_factory=list)
    settled_at: float = math.inf

    @property
    def clock(self) -> Clock:
        return Clock(
            self.origin,
            ((call.started, call.ended, call.request["seconds"]) for call in self.calls if call.kind == "move_clock"),
        )

    def write(self, path: Path) -> None:
        """Writes the history, a line for each call after one for all of them."""
        head = {"town": asdict(self.town), "origin": self.origin, "settled_at": self.settled_at}
        with path.open("w", encoding="utf-8") as lines:
            for line in (head, *map(asdict, self.calls)):
                lines.write(json.dumps(line) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a history that was written."""
        head, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        calls = [Call(**line) for line in lines]
        return cls(Town.read(head["town"]), head["origin"], calls, head["settled_at"])


def to_seconds(instant: str) -> float:
    """Reads an instant of the API, as seconds since the epoch."""
    return datetime.fromisoformat(instant).timestamp()


def to_instant(seconds: float) -> str:
    """Writes seconds since the epoch as an instant of the API."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
