"""Faults of what a caller wrote: their message, and the member that is to be changed."""

from dataclasses import dataclass
from typing import Any, LiteralString

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class FaultMessage:
    """In an `Annotated`: replaces the message of every fault that the parser finds in what stands before it."""

    message: LiteralString

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "fault", custom_error_message=self.message)


def fault_at(member: str, message: LiteralString) -> ValidationError:
    """Builds the error of a validator that compares several members, at the one that is to be changed."""
    fault = InitErrorDetails(type=PydanticCustomError("fault", message), loc=(member,), input=None)
    return ValidationError.from_exception_data("several members", [fault])
