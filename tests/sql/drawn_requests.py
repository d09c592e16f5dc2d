"""The requests of the random sequences: few values, so that their claims conflict."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from tests.database import at, reserve_request
from tests.sql.model import MINUTE, Claim

BUFFERS = {"plain": timedelta(0), "buffered": 10 * MINUTE, "cut": timedelta(0), "perm": 10 * MINUTE}
# Two services share both resources.
RESOURCES = ("anna", "bert")
POOLS = {"cut": RESOURCES, "perm": RESOURCES}

# Two hours of one morning, and sometimes two days.
services = st.sampled_from(["plain", "buffered", "cut", "cut", "perm"])
starts = st.sampled_from([at(10), at(11)])
ttls = st.sampled_from([15, 90])
rarely = st.sampled_from([False, False, True])
drawn_claims = st.fixed_dictionaries(
    {
        "service_id": services,
        "start": starts,
        "minutes": st.sampled_from([60, 60, 60, 60, 120, 48 * 60]),
        # For services without a pool.
        "quantity": st.sampled_from([1, 1, 2]),
        # For services with a pool.
        "resource_id": st.sampled_from([None, None, *RESOURCES]),
        "ttl_minutes": st.none() | ttls,
    }
)
# The members of a change: None is left out, and "any" asks for any resource.
drawn_changes = st.fixed_dictionaries(
    {
        "start": st.none() | starts,
        "minutes": st.sampled_from([None, None, 60, 120]),
        "quantity": st.sampled_from([None, None, 1, 2]),
        "resource_id": st.sampled_from([None, None, "any", *RESOURCES]),
    }
)


def claim_of(request: dict[str, Any]) -> Claim:
    """Returns the claim that a request asks for."""
    buffer = BUFFERS[request["service_id"]]
    end = request["start"] + request["minutes"] * MINUTE
    pool = POOLS.get(request["service_id"])
    named = (request["resource_id"],) if request["resource_id"] else pool
    quantity = 1 if pool else request["quantity"]
    return Claim(request["service_id"], request["start"] - buffer, end + buffer, quantity, pool and named)


def to_request(
    request: dict[str, Any], key: str | None = None, make: Callable[..., dict[str, Any]] = reserve_request
) -> dict[str, Any]:
    """Returns a request as booking.reserve or booking.book takes it."""
    end = request["start"] + request["minutes"] * MINUTE
    return make(
        service_id=request["service_id"],
        slot_start=request["start"].isoformat(),
        slot_end=end.isoformat(),
        quantity=claim_of(request).quantity,
        resource_id=request["resource_id"] if request["service_id"] in POOLS else None,
        ttl_minutes=request["ttl_minutes"],
        idempotency_key=key,
        fingerprint=repr(request),
    )
