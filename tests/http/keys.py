"""Keys of a business: where they are kept, how a test makes one and sends it."""

from typing import Final

import httpx2

from tests.http.conftest import ADMIN

BUSINESSES: Final = "/api/catalog/businesses"


def bearer(token: str) -> dict[str, str]:
    """Returns the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


async def make_key(client: httpx2.AsyncClient, role: str = "owner", business_id: str = "salon") -> dict[str, str]:
    """Makes a key with the administrator's, and returns the answer."""
    body = {"name": f"The {role}'s", "role": role}
    response = await client.post(f"{BUSINESSES}/{business_id}/keys", json=body, headers=ADMIN)
    assert response.status_code == 201
    key: dict[str, str] = response.json()
    return key
