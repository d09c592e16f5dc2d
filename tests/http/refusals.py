"""What tests compare of a refusal: its status, its code and the fields that it names."""

import httpx2


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """Returns the status and the code of a refusal."""
    return response.status_code, response.json()["code"]


def faulty_fields(response: httpx2.Response) -> list[str]:
    """Returns the fields that a validation problem names."""
    assert refusal(response) == (400, "VALIDATION_FAILED")
    return [fault["field"] for fault in response.json()["errors"]]
