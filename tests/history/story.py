"""Histories written by hand, to show what the checker finds in them."""

from typing import Any, Final, Self

from tests.history.record import Call, History, Offer, Town, to_instant

ORIGIN: Final = 1_800_000_000.0
HOUR: Final = 3600.0
# Midnight of a day that no clock of a story reaches.
_DAY: Final = ORIGIN - ORIGIN % (24 * HOUR) + 10 * 24 * HOUR
_WHOLE_DAY: Final = {"from": to_instant(_DAY), "to": to_instant(_DAY + 24 * HOUR)}
_TOWN: Final = Town(
    offers={
        "salon": {
            "cut": Offer(60, capacity=1),
            "wash": Offer(60, pool=("rosa", "maria")),
            "class": Offer(60, pool=("hall",), shares=True),
        }
    },
    seats={"salon": {"rosa": 1, "maria": 1, "hall": 3}},
)


def slot(service: str, hour: float = 10, hours: float = 1) -> dict[str, Any]:
    """Returns the members of a slot."""
    starts = _DAY + hour * HOUR
    return {"serviceId": service, "slotStart": to_instant(starts), "slotEnd": to_instant(starts + hours * HOUR)}


class Story:
    """A history that grows call by call: each begins a second after the one before, and takes a tenth of a second."""

    def __init__(self) -> None:
        self.history = History(_TOWN, ORIGIN)
        self.time = 0.0

    def call(
        self, kind: str, status: int | None, answer: dict[str, Any] | None = None, lasts: float = 0.1, /, **request: Any
    ) -> Self:
        """Adds a call."""
        self.time += 1
        number = len(self.history.calls) + 1
        self.history.calls.append(
            Call(number, kind, "salon", request, self.time, self.time + lasts, status, answer or {})
        )
        return self

    def wait(self, seconds: float) -> Self:
        """Lets time pass."""
        self.time += seconds
        return self

    def settle(self) -> Self:
        """Begins the final reads."""
        self.time += 60
        self.history.settled_at = self.time
        return self

    # Answers.

    def hold(self, name: str, service: str = "cut", *, ttl: float = 5, **members: Any) -> dict[str, Any]:
        """Returns the body of a hold that the next call makes."""
        expires_at = to_instant(ORIGIN + self.time + 1.05 + 60 * ttl)
        rest = {"reservationId": name, "status": "held", "expiresAt": expires_at, "resourceId": None, "quantity": 1}
        return slot(service) | rest | members

    def appointment(self, name: str, service: str = "cut", **members: Any) -> dict[str, Any]:
        """Returns the body of an appointment that the next call makes or shows."""
        rest = {"appointmentId": name, "status": "confirmed", "version": 1, "resourceId": None, "quantity": 1}
        return slot(service) | rest | {"createdAt": to_instant(ORIGIN + self.time + 1.05)} | members

    # Calls with the usual answers.

    def reserve(self, name: str, service: str = "cut", **members: Any) -> Self:
        """Adds a reserve that was granted."""
        request = slot(service) | {"ttlMinutes": members.get("ttl", 5), "quantity": members.get("quantity", 1)}
        return self.call("reserve", 201, self.hold(name, service, **members), **request)

    def refused(
        self, kind: str = "reserve", code: str = "SLOT_UNAVAILABLE", lasts: float = 0.1, **request: Any
    ) -> Self:
        """Adds a call that was refused."""
        return self.call(kind, 409, {"code": code}, lasts, **request)

    def book(self, name: str, service: str = "cut", **members: Any) -> Self:
        """Adds a booking that was granted."""
        return self.call("book", 201, self.appointment(name, service, **members), **slot(service))

    def commit(self, hold: str, name: str, service: str = "cut", **members: Any) -> Self:
        """Adds a commit that was granted."""
        return self.call("commit", 201, self.appointment(name, service, **members), reservationId=hold)

    def change(self, name: str, expected: int, body: dict[str, Any], **changes: Any) -> Self:
        """Adds a change that was made."""
        return self.call("change", 200, body, appointmentId=name, expectedVersion=expected, set=changes)

    def list_all(self, *items: dict[str, Any]) -> Self:
        """Adds the list of all appointments."""
        return self.call("list_appointments", 200, {"items": list(items), "nextCursor": None}, **_WHOLE_DAY)

    def list_slots(self, *slots: dict[str, Any]) -> Self:
        """Adds the listing of the free slots of "cut" on a day."""
        return self.call("availability", 200, {"slots": list(slots)}, serviceId="cut", **_WHOLE_DAY)

    def audit(self, name: str, *entries: tuple[int, int], service: str = "cut") -> Self:
        """Adds the audit trail of an appointment, whose entries are versions and the numbers of calls."""
        made = slot(service) | {"status": "confirmed", "quantity": 1}
        items = [
            {
                "version": version,
                "requestId": f"call-{number}",
                "action": "created" if version == 1 else "changed",
                "changes": {name: {"before": None, "after": value} for name, value in made.items() if version == 1},
                "at": made["slotStart"],
            }
            for version, number in entries
        ]
        return self.call("audit", 200, {"items": items}, appointmentId=name)
