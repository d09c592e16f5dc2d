"""Instants, local dates and times: as callers write them, in ISO 8601, and as answers have them, instants in UTC."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints, WithJsonSchema

from service.booking.text import OneFault
from service.faults import FaultCode, fault_error

_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_OFFSET_WITHOUT_SIGN = re.compile(r" \d\d:?\d\d$")

_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(3000, 1, 1, tzinfo=UTC)


def _written_as_iso_8601(value: object) -> str:
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise fault_error(FaultCode.INVALID_INSTANT)
    if _OFFSET_WITHOUT_SIGN.search(value):
        raise fault_error(FaultCode.LOST_PLUS)
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise fault_error(FaultCode.YEAR_OUT_OF_RANGE, min=1, max=9999) from error


def _in_sensible_years(value: datetime) -> datetime:
    if not _FIRST <= value < _LAST:
        raise fault_error(FaultCode.YEAR_OUT_OF_RANGE, min=_FIRST.year, max=_LAST.year - 1)
    return value


def _in_whole_seconds(value: datetime) -> datetime:
    if value.microsecond:
        raise fault_error(FaultCode.FRACTION_OF_SECOND)
    return value


def written_instant(value: datetime | str) -> str:
    """Writes an instant in the one shape of all answers, in UTC and in milliseconds, the rest cut off.

    From the text that the database writes, without making a datetime of it: a page of slots has a thousand instants.
    """
    if isinstance(value, str):
        if value.endswith("+00:00"):
            return f"{value[:19]}.{value[20:-6]:0<3.3}Z"
        value = datetime.fromisoformat(value)
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


INSTANT_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
}
# Of answers.
WrittenInstant = Annotated[str, BeforeValidator(written_instant), WithJsonSchema(INSTANT_SCHEMA)]

# Not strict, because after a validator of ours a string no longer counts as JSON's; that one takes only strings.
Instant = Annotated[
    AwareDatetime,
    Field(strict=False),
    OneFault(FaultCode.INVALID_INSTANT),
    BeforeValidator(_written_as_iso_8601),
    AfterValidator(_in_utc),
]

WholeSecond = Annotated[Instant, AfterValidator(_in_whole_seconds)]

# Of slots: near both ends of time, instants that are computed from them could not be written.
SlotInstant = Annotated[WholeSecond, AfterValidator(_in_sensible_years)]

# By the clock of a business; 24:00 ends the day.
TIME_OF_DAY: Final = StringConstraints(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$")
TIME_OR_MIDNIGHT: Final = StringConstraints(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")

_DATE = re.compile(r"\d{4}-\d\d-\d\d$")


def _written_as_date(value: object) -> str:
    if not isinstance(value, str) or not _DATE.match(value):
        raise fault_error(FaultCode.INVALID_DATE)
    return value


def _date_in_sensible_years(value: date) -> date:
    if not _FIRST.date() <= value < _LAST.date():
        raise fault_error(FaultCode.YEAR_OUT_OF_RANGE, min=_FIRST.year, max=_LAST.year - 1)
    return value


# By the clock of a business.
LocalDate = Annotated[
    date,
    Field(strict=False),
    OneFault(FaultCode.INVALID_DATE),
    BeforeValidator(_written_as_date),
    AfterValidator(_date_in_sensible_years),
]
