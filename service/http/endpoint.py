"""How a call is declared: a decorator on its handler, of which the routes and the OpenAPI document are both made."""

import inspect
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from types import NoneType
from typing import Any, Final, TypeVar, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel, to_snake
from starlette.types import ASGIApp

from service.errors import Invalid, Refused
from service.http.answer import JSON, Answer, answer
from service.http.call import Call

F = TypeVar("F", bound=Callable[..., Any])

MAX_BODY_BYTES: Final = 64 * 1024

# Each role may do what those before it may.
_ROLES: Final = ("readonly", "staff", "owner", "admin")


class Access(Enum):
    """Who may call: the holder of this role, or of one above it."""

    PUBLIC = "public"
    READONLY = "readonly"
    STAFF = "staff"
    OWNER = "owner"
    ADMIN = "admin"
    # The scheduler, with a secret of its own.
    CRON = "cron"

    @property
    def roles(self) -> tuple[str, ...]:
        """The kinds of principals that may call, from the lowest to the administrator."""
        lowest = "admin" if self is Access.CRON else self.value
        return _ROLES[_ROLES.index(lowest) :] if lowest in _ROLES else ()


class NoQuery(BaseModel, extra="forbid", hide_input_in_errors=True):
    """The query of a call that has no parameters."""


@dataclass(frozen=True, slots=True)
class Missing:
    """In an `Annotated` UUID of a path: the code for a text that is no UUID, and so the id of nothing."""

    code: str


@dataclass(frozen=True, slots=True)
class PathParameter:
    """One value in the path: its name there, the handler's parameter, and the type that it is read as."""

    name: str
    argument: str
    adapter: TypeAdapter[Any]
    missing: str | None

    @property
    def is_checked(self) -> bool:
        """Whether a value can be malformed, so that VALIDATION_FAILED is the answer."""
        return "pattern" in self.adapter.json_schema()

    def read(self, text: str) -> Any:
        """Reads the value. Raises `Invalid`, or `Refused` for the id of nothing."""
        try:
            return self.adapter.validate_python(text)
        except ValidationError as error:
            if self.missing:
                raise Refused(self.missing) from None
            raise Invalid.of_input(error, self.name) from None


@dataclass(frozen=True, kw_only=True)
class endpoint:  # noqa: N801 — a decorator
    """Declares the method below as the handler of a call; several declarations make it answer several.

    The handler takes what it names among `call`, `body`, `query` and the values of the path, the latter in snake_case;
    their annotations say how they are read. Without `answers` it returns the record that a 200 has, or None for a 204;
    otherwise an ASGI application. The first paragraph of its docstring is the summary, the rest the description.
    """

    method: str = field(kw_only=False)
    path: str = field(kw_only=False)
    tag: str
    # The model of the body by status; None for a status without a body, or with a body that has no model.
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=dict)
    # The public name of the operation, by which clients are generated. By default the handler's name in camelCase.
    operation_id: str = ""
    access: Access = Access.PUBLIC
    # Whether the guest may call too, by the token of the appointment: the handler checks it.
    by_guest: bool = False
    # The codes that this call adds to those that follow from its declaration.
    refusals: tuple[str, ...] = ()
    # The statuses of a code, if they differ from the usual one.
    statuses: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    # Whether admitted requests are counted against the limits, and whether the database is asked.
    limited: bool = True
    asks_database: bool = True
    # Whether success proves that the business named in the request exists.
    proves_business: bool = True
    # Called by machines every few seconds: its requests are logged at the level debug.
    probe: bool = False
    # The media type of answers, or several, separated by commas.
    media_type: str = JSON
    # The size limit of a body. Metadata in it has a smaller limit.
    max_body_bytes: int = MAX_BODY_BYTES
    request_headers: tuple[str, ...] = ()
    # A request without these headers is refused.
    required_headers: tuple[str, ...] = ()
    answer_headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    # The model of errors, where they are no problem+json.
    refusal_model: type[BaseModel] | None = None
    # By default the annotation of `query`. Given for handlers that read the query from the call only. Without either,
    # calls of the API refuse parameters; those of a scheduler, and pages and probes, ignore them.
    query: type[BaseModel] | None = None

    def __call__(self, handler: F) -> F:
        hints = get_type_hints(handler, include_extras=True)
        summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n\n")
        is_strict = self.path.startswith("/api/") and self.media_type == JSON and self.access is not Access.CRON
        derived = {
            "operation_id": self.operation_id or to_camel(handler.__name__),
            "query": hints.get("query", self.query) or (NoQuery if is_strict else None),
            "answers": self.answers or ({204: None} if hints["return"] is NoneType else {200: hints["return"]}),
        }
        declared = Endpoint(
            **(vars(self) | derived),
            summary=" ".join(summary.split()).removesuffix("."),
            description=description.strip(),
            handler=handler,
            returns_record=not self.answers,
            body=hints.get("body"),
            takes=tuple(name for name in ("call", "body", "query") if name in hints),
            path_parameters=tuple(_path_parameters(self.path, hints)),
        )
        handler.__dict__["endpoints"] = [declared, *handler.__dict__.get("endpoints", ())]
        return handler


@dataclass(frozen=True, kw_only=True)
class Endpoint(endpoint):
    """One method of one path: what is declared about it, and what follows from its handler."""

    summary: str
    description: str
    handler: Callable[..., Coroutine[Any, Any, ASGIApp]]
    # Whether the handler returns a record, or None, and leaves it to `endpoints_of` to make the answer.
    returns_record: bool
    body: type[BaseModel] | None
    # Which of `call`, `body` and `query` the handler takes.
    takes: tuple[str, ...]
    path_parameters: tuple[PathParameter, ...]

    # Looked at for each request: to name a member of an `Enum` and compare it takes four times as long.
    @cached_property
    def is_public(self) -> bool:
        """Whether anybody may call."""
        return self.access is Access.PUBLIC

    @cached_property
    def takes_token_in_body(self) -> bool:
        """Whether the token of a guest may also be in the body, so that access is known only when that is read."""
        return self.by_guest and self.body is not None and "cancellation_token" in self.body.model_fields

    @cached_property
    def is_counted(self) -> bool:
        """Whether requests can be refused by a limit. Where a secret is needed, wrong ones are counted in any case."""
        return self.limited or not self.is_public

    def arguments(self, call: Call) -> dict[str, Any]:
        """Returns the arguments of the handler for a call whose body and query were read. Raises `HoldfastError`."""
        arguments = {name: call if name == "call" else getattr(call, name) for name in self.takes}
        for parameter in self.path_parameters:
            arguments[parameter.argument] = parameter.read(call.path[parameter.name])
        return arguments


def endpoints_of(api: object) -> list[Endpoint]:
    """Returns the endpoints that an object's methods declare, in their order, bound to the object."""
    return [
        replace(declared, handler=_answering(getattr(api, name)) if declared.returns_record else getattr(api, name))
        for name, method in vars(type(api)).items()
        for declared in getattr(method, "endpoints", ())
    ]


def _answering(handler: Callable[..., Coroutine[Any, Any, BaseModel | None]]) -> Callable[..., Any]:
    """Makes the answer of what a handler returns."""

    async def call(**arguments: Any) -> ASGIApp:
        record = await handler(**arguments)
        return Answer(status=204) if record is None else answer(record)

    return call


def may_omit_body(model: type[BaseModel]) -> bool:
    """Returns whether nothing in a body is required: then no body means the same as an empty one."""
    try:
        model.model_validate({})
    except ValidationError:
        return False
    return True


def _path_parameters(path: str, hints: Mapping[str, Any]) -> Iterator[PathParameter]:
    for name in re.findall(r"{(\w+)}", path):
        argument = to_snake(name)
        hint = hints[argument]
        missing = next((note.code for note in getattr(hint, "__metadata__", ()) if isinstance(note, Missing)), None)
        yield PathParameter(name, argument, TypeAdapter(hint), missing)
