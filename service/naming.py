"""Names: the form of ids, and snake_case in SQL and Python as camelCase in JSON."""

from collections.abc import Sequence
from typing import Final, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

# The caller's own strings, for businesses, services, resources and other entries of the catalog.
ID_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"


def json_name(name: str) -> str:
    """Returns the name of a member in JSON: `from` of `from_`, because Python reserves that word."""
    return to_camel(name.removesuffix("_"))


class Record(BaseModel):
    """A model that reads the snake_case of the database and writes the camelCase of JSON."""

    model_config = ConfigDict(
        alias_generator=json_name, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    @classmethod
    def of_row(cls, row: Sequence[object]) -> Self:
        """Makes a record of a row, whose columns are the record's members in their order."""
        return cls.model_validate(dict(zip(cls.model_fields, row, strict=True)))
