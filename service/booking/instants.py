"""Instants and local dates as callers write them: ISO 8601, instants with an offset and converted to UTC."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from service.booking.text import FaultMessage

_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_OFFSET_WITHOUT_SIGN = re.compile(r" \d\d:?\d\d$")
_NO_INSTANT: Final = "must be an ISO 8601 instant with an offset, like 2026-11-21T09:00:00+01:00"

_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(3000, 1, 1, tzinfo=UTC)


def _written_as_iso_8601(value: object) -> str:
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise PydanticCustomError("instant", _NO_INSTANT)
    if _OFFSET_WITHOUT_SIGN.search(value):
        raise PydanticCustomError("instant_plus", "In a URL the + of an offset is written %2B")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise PydanticCustomError("instant_range", "This instant is outside the years 1 to 9999 in UTC") from error


def _in_sensible_years(value: datetime) -> datetime:
    if not _FIRST <= value < _LAST:
        raise PydanticCustomError("slot_range", "A slot lies between the years 1900 and 3000")
    return value


# Not strict, because after a validator of ours a string no longer counts as JSON's; that one takes only strings.
Instant = Annotated[
    AwareDatetime,
    Field(strict=False),
    FaultMessage(_NO_INSTANT),
    BeforeValidator(_written_as_iso_8601),
    AfterValidator(_in_utc),
]

# Of slots: near both ends of time, instants that are computed from them could not be written.
SlotInstant = Annotated[Instant, AfterValidator(_in_sensible_years)]

_DATE = re.compile(r"\d{4}-\d\d-\d\d$")
_NO_DATE: Final = "must be a date like 2026-11-21"


def _written_as_date(value: object) -> str:
    if not isinstance(value, str) or not _DATE.match(value):
        raise PydanticCustomError("date", _NO_DATE)
    return value


def _date_in_sensible_years(value: date) -> date:
    if not _FIRST.date() <= value < _LAST.date():
        raise PydanticCustomError("date_range", "A date lies between the years 1900 and 3000")
    return value


# By the clock of a business.
LocalDate = Annotated[
    date,
    Field(strict=False),
    FaultMessage(_NO_DATE),
    BeforeValidator(_written_as_date),
    AfterValidator(_date_in_sensible_years),
]
