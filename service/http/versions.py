"""The version of an appointment: sent as `ETag`, expected as `If-Match` or in the body."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from service.booking.appointments import Appointment
from service.errors import Invalid, Refused
from service.http.call import Call

_TAG: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')


def version_tag(appointment: Appointment) -> dict[str, str]:
    """Returns the header with the version."""
    return {"ETag": f'"{appointment.version}"'}


@dataclass(frozen=True, slots=True)
class Expectation:
    """The version that a change expects; None for any. In a header, `*` expects any."""

    version: int | None
    by_header: bool

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Wraps the change: a conflict is a 412 where the header named the version (RFC 9110, 13.1.1)."""
        try:
            yield
        except Refused as refused:
            if not self.by_header or refused.code != "VERSION_CONFLICT":
                raise
            raise Refused(refused.code, refused.detail, status=412, **refused.members) from None


def expectation(call: Call) -> Expectation:
    """Reads the expected version from the body or `If-Match`; both, if given, must agree. Raises `Invalid`."""
    in_body: int | None = getattr(call.body, "expected_version", None)
    in_header = call.header(b"if-match")
    if in_header is None:
        return Expectation(in_body, by_header=False)
    tag = _TAG.fullmatch(in_header.strip())
    if not tag and in_header.strip() != "*":
        raise Invalid.at("If-Match", 'must be a version in quotes, like "5", as given in ETag, or *')
    version = int(tag[1]) if tag else None
    if in_body not in (None, version):
        raise Invalid.at("expectedVersion", "and If-Match differ; send one, or the same in both")
    return Expectation(version, by_header=True)
