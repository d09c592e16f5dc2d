"""The version of an appointment: told as `ETag`, expected as `If-Match` or in the body."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from service.booking.appointments import Appointment
from service.errors import Invalid, Refused
from service.http.endpoints import Call

_TAG: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')


def version_tag(appointment: Appointment) -> dict[str, str]:
    """The header that tells the version."""
    return {"ETag": f'"{appointment.version}"'}


@dataclass(frozen=True, slots=True)
class Expectation:
    """The version that a change is to be made on; None where any will do. By the header that is said with `*`."""

    version: int | None
    by_header: bool

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around the change: where the header said what was expected, a conflict is a 412."""
        try:
            yield
        except Refused as refused:
            if self.by_header and refused.code == "VERSION_CONFLICT":
                refused.status = 412
            raise


def expectation(call: Call) -> Expectation:
    """What a request expects, in its body or as `If-Match`; both, if given, must agree."""
    in_body: int | None = getattr(call.body, "expected_version", None)
    in_header = call.request.headers.get("if-match")
    if in_header is None:
        return Expectation(in_body, by_header=False)
    tag = _TAG.fullmatch(in_header.strip())
    if not tag and in_header.strip() != "*":
        raise Invalid.at("If-Match", 'must be a version in quotes, like "5", as given in ETag, or *')
    version = int(tag[1]) if tag else None
    if in_body not in (None, version):
        raise Invalid.at("expectedVersion", "and If-Match differ; send one, or the same in both")
    return Expectation(version, by_header=True)
