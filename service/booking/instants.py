"""Instants, local dates and times: as callers write them, in ISO 8601, and as answers have them, instants in UTC."""

import re
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core.core_schema import ValidationInfo

from service.booking.text import OneFault
from service.faults import FaultCode, fault_error
from service.naming import json_name

_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]")
_OFFSET_WITHOUT_SIGN = re.compile(r" \d\d:?\d\d$")
# An offset follows the fraction: without an offset the text is no instant.
_FRACTION = re.compile(r"[.,]0*[1-9]\d*\D")

# The years of slots and dates. Near the ends of time, instants computed from them could not be written.
_YEARS: Final = range(1900, 3000)
# A slot of 366 days may start in the last of these years.
_YEARS_OF_ENDS: Final = range(1900, 3002)


def _written_as_iso_8601(value: object) -> str:
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise fault_error(FaultCode.INVALID_INSTANT)
    if _OFFSET_WITHOUT_SIGN.search(value):
        raise fault_error(FaultCode.LOST_PLUS)
    return value


def _year_out_of_range(years: range) -> Exception:
    return fault_error(FaultCode.YEAR_OUT_OF_RANGE, min=years[0], max=years[-1])


def _in_utc(years: range) -> AfterValidator:
    """Converts an instant to UTC, and refuses a year far away."""

    def convert(value: datetime) -> datetime:
        try:
            instant = value.astimezone(UTC)
        except OverflowError:
            raise _year_out_of_range(years) from None
        if instant.year not in years:
            raise _year_out_of_range(years)
        return instant

    return AfterValidator(convert)


def _in_sensible_years(value: date) -> date:
    if value.year not in _YEARS:
        raise _year_out_of_range(_YEARS)
    return value


def _in_whole_seconds(value: str) -> str:
    """Refuses a fraction that is not zero, as it is written: the parser cuts off what is less than a microsecond."""
    if _FRACTION.search(value):
        raise fault_error(FaultCode.FRACTION_OF_SECOND)
    return value


def written_instant(value: datetime | str) -> str:
    """Writes an instant in the one shape of all answers, in UTC and in milliseconds, the rest cut off."""
    # The text of the database without making a datetime of it: a page of slots has a thousand instants.
    if isinstance(value, str):
        if value.endswith("+00:00"):
            return f"{value[:19]}.{value[20:-6]:0<3.3}Z"
        value = datetime.fromisoformat(value)
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_shown(value: datetime) -> datetime:
    """Cuts off what answers cut off."""
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


INSTANT_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
}
# An instant in an answer.
WrittenInstant = Annotated[str, BeforeValidator(written_instant), WithJsonSchema(INSTANT_SCHEMA)]

# Not strict: what a validator of ours returns counts as a value of Python and not of JSON, and the strict mode would
# refuse a string. The validators before it take only strings. The last one in the list runs first.
_Read = Annotated[AwareDatetime, Field(strict=False), OneFault(FaultCode.INVALID_INSTANT)]
_WholeSecond = Annotated[_Read, BeforeValidator(_in_whole_seconds), BeforeValidator(_written_as_iso_8601)]
Instant = Annotated[_Read, BeforeValidator(_written_as_iso_8601), _in_utc(range(MINYEAR, MAXYEAR + 1))]
# An instant that can be read and put back unchanged.
ShownInstant = Annotated[Instant, AfterValidator(_as_shown)]
SlotInstant = Annotated[_WholeSecond, _in_utc(_YEARS)]
EndOfSlot = Annotated[_WholeSecond, _in_utc(_YEARS_OF_ENDS)]


def after(member: str) -> AfterValidator:
    """Refuses an instant that is not after that of another member, which is declared before it."""

    def check(later: datetime, info: ValidationInfo) -> datetime:
        earlier = info.data.get(member)
        if earlier is not None and later <= earlier:
            raise fault_error(FaultCode.NOT_AFTER, field=json_name(member))
        return later

    return AfterValidator(check)


# Times by the clock of a business; 24:00 ends the day.
TimeOfDay = Annotated[
    str, StringConstraints(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$"), OneFault(FaultCode.INVALID_TIME)
]
EndTime = Annotated[
    str, StringConstraints(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"), OneFault(FaultCode.INVALID_END_TIME)
]

_DATE = re.compile(r"\d{4}-\d\d-\d\d$")


def _written_as_date(value: object) -> str:
    if not isinstance(value, str) or not _DATE.match(value):
        raise fault_error(FaultCode.INVALID_DATE)
    return value


# A date by the clock of a business.
LocalDate = Annotated[
    date,
    Field(strict=False),
    OneFault(FaultCode.INVALID_DATE),
    BeforeValidator(_written_as_date),
    AfterValidator(_in_sensible_years),
]
