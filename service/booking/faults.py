"""What is wrong with what a caller wrote: told in words, and at the member that is to be changed."""

from dataclasses import dataclass
from typing import Any, LiteralString

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Told:
    """In an `Annotated`: whatever the parser finds wrong with what stands before it, it is told in these words."""

    words: LiteralString

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "fault", custom_error_message=self.words)


def fault_at(member: str, message: LiteralString) -> ValidationError:
    """For a validator that looks at several members: a fault of the one that is to be changed."""
    fault = InitErrorDetails(type=PydanticCustomError("fault", message), loc=(member,), input=None)
    return ValidationError.from_exception_data("several members", [fault])
