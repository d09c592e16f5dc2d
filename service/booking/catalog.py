"""The catalog: businesses, their services and resources, and when they are open."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import psycopg
from pydantic import Field, TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from service.booking.businesses import found, require_business, rows_of
from service.booking.catalog_types import (
    Business,
    BusinessSettings,
    PublicBusiness,
    PublicResource,
    Resource,
    ResourceSettings,
)
from service.booking.document import AppliedDocument, CatalogDocument, CatalogSettings, read_document
from service.booking.opening_types import (
    Closure,
    ClosureSettings,
    OpeningHours,
    OpeningHoursSettings,
    PutClosureAnswer,
    PutSpecialHoursAnswer,
    PutWeeklyHoursAnswer,
    SpecialHours,
    SpecialHoursSettings,
)
from service.booking.service_types import PublicService, Service, ServiceSettings
from service.booking.text import Identifier
from service.booking.verbs import Announce, announce_unknown, body_of, refusal
from service.database.connections import CHANGE_SECONDS, Database, Reader
from service.errors import DatabaseDown, HoldfastError, Invalid, Refused
from service.naming import Record

S = TypeVar("S", ResourceSettings, ServiceSettings, SpecialHoursSettings, ClosureSettings)
R = TypeVar("R", bound=Record)
A = TypeVar("A", bound=Record)

_HOURS: TypeAdapter[list[OpeningHoursSettings]] = TypeAdapter(list[OpeningHoursSettings])


@dataclass(frozen=True, slots=True)
class Noun(Generic[S, R, A]):
    """A kind of entry of a business: its settings, the models of a read and of the answer to a put, its statements, and
    the code of the refusal for an unknown id."""

    settings: type[S]
    model: type[R]
    put_answer: type[A]
    read: str
    put: str
    delete: str
    not_found: str


RESOURCE: Final = Noun(
    ResourceSettings, Resource, Resource, "resources", "put_resource", "delete_resource", "RESOURCE_NOT_FOUND"
)
SERVICE: Final = Noun(
    ServiceSettings, Service, Service, "services", "put_service", "delete_service", "SERVICE_NOT_FOUND"
)
SPECIAL_HOURS: Final = Noun(
    *(SpecialHoursSettings, SpecialHours, PutSpecialHoursAnswer),
    *("special_hours", "put_special_hours", "delete_special_hours", "SPECIAL_HOURS_NOT_FOUND"),
)
CLOSURE: Final = Noun(
    ClosureSettings, Closure, PutClosureAnswer, "closures", "put_closure", "delete_closure", "CLOSURE_NOT_FOUND"
)


class ArchivedNames(Record):
    """The names of what the catalog of a business has no more."""

    services: dict[str, str] = Field(description="The names of archived services, by their ids.")
    resources: dict[str, str] = Field(description="The names of archived resources, by their ids.")


class Catalog:
    """The verbs on the catalog, and its reads. Each raises `Refused`, `Invalid` and `Unavailable`.

    A change takes the lock of its business, and is reported by `announce`. A put of a business or of an entry returns
    it, and whether it is new.
    """

    def __init__(self, database: Database, announce: Announce | None = None) -> None:
        self._database = database
        self._announce = announce

    async def put_business(self, business_id: Identifier, settings: BusinessSettings) -> tuple[Business, bool]:
        """Creates a business or replaces its settings."""
        outcome, body = await self._change("put_business", business_id, settings.model_dump_json(by_alias=False))
        return Business.model_validate_json(body), outcome == "created"

    async def business(self, business_id: Identifier) -> Business:
        return found(await self._database.fetch("business", business_id), Business, "BUSINESS_NOT_FOUND")

    async def businesses(self) -> list[Business]:
        rows, left_out = await self._database.fetch_everywhere("businesses")
        if left_out:
            raise DatabaseDown
        return [Business.model_validate_json(body) for (body,) in rows]

    async def delete_business(self, business_id: Identifier) -> None:
        """Deletes a business that has no services and no resources."""
        await self._change("delete_business", business_id)

    async def put(
        self, noun: Noun[S, R, A], business_id: Identifier, entry_id: Identifier, settings: S
    ) -> tuple[A, bool]:
        """Creates an entry or replaces its settings; of a service, its pool of resources too."""
        written = settings.model_dump_json(by_alias=False)
        outcome, body = await self._change(noun.put, business_id, entry_id, written)
        return noun.put_answer.model_validate_json(body), outcome == "created"

    async def get(self, noun: Noun[S, R, A], business_id: Identifier, entry_id: Identifier) -> R:
        rows = await rows_of(self._database, noun.read, business_id, entry_id)
        return found(rows, noun.model, noun.not_found)

    async def entries(self, noun: Noun[S, R, A], business_id: Identifier) -> list[R]:
        """Returns the entries of a business: closures and special hours by their beginning, others by id."""
        rows = await rows_of(self._database, noun.read, business_id, None)
        return [noun.model.model_validate_json(body) for (body,) in rows]

    async def delete(self, noun: Noun[S, R, A], business_id: Identifier, entry_id: Identifier) -> None:
        """Removes an entry. A resource or service that was ever booked is archived instead."""
        try:
            await self._change(noun.delete, business_id, entry_id)
        except Refused as refused:
            if refused.code == noun.not_found:
                await require_business(self._database, business_id)
            raise

    async def archived_names(self, business_id: Identifier) -> ArchivedNames:
        """Returns the names of the archived services and resources of a business."""
        rows = await self._database.fetch("archived_names", business_id)
        return found(rows, ArchivedNames, "BUSINESS_NOT_FOUND")

    async def put_opening_hours(
        self, business_id: Identifier, hours: list[OpeningHoursSettings]
    ) -> PutWeeklyHoursAnswer:
        """Replaces all opening hours of a business and its resources. An empty list: always open."""
        written = _HOURS.dump_json(hours, by_alias=False).decode()
        _, body = await self._change("put_opening_hours", business_id, written)
        return PutWeeklyHoursAnswer.model_validate_json(body)

    async def opening_hours(self, business_id: Identifier) -> list[OpeningHours]:
        """Returns the opening hours of a business, then those of its resources, through the week."""
        rows = await rows_of(self._database, "opening_hours", business_id)
        return [OpeningHours.model_validate_json(body) for (body,) in rows]

    async def document(self, business_id: Identifier) -> CatalogDocument:
        """Returns the whole catalog of a business."""
        [(body,)] = await self._database.fetch("document", business_id)
        if body is None:
            raise Refused("BUSINESS_NOT_FOUND")
        return read_document(body)

    async def put_document(
        self, business_id: Identifier, document: CatalogSettings, *, dry_run: bool = False
    ) -> AppliedDocument:
        """Makes the catalog of a business equal to a document, all of it or nothing; a dry run changes nothing.

        A refusal names the entry in its detail or, if it is a fault of the document, in its field.
        """
        outcome, body = await self._send("put_document", business_id, document.model_dump_json(by_alias=False), dry_run)
        members = from_json(body)
        if outcome != "done":
            raise _refused_entry(outcome, members)
        applied = AppliedDocument.model_validate(members)
        if self._announce and applied.changes and not dry_run:
            self._announce(business_id, {}, moved=False)
        return applied

    async def _change(self, query: str, business_id: str, *parameters: object) -> tuple[str, Any]:
        """Runs a change, announces it, and returns its outcome and body."""
        outcome, body = await self._send(query, business_id, *parameters)
        body_of(outcome, body)
        if self._announce:
            # Without a service, all watchers of the business are concerned: see booking.put_service.
            concerns_all = query not in (SERVICE.put, SERVICE.delete) or "frees_more" in from_json(body or b"{}")
            about = None if concerns_all else parameters[0]
            self._announce(business_id, {"service_id": about}, moved=False)
        return outcome, body

    async def _send(self, query: str, business_id: str, *parameters: object) -> tuple[str, Any]:
        """Runs a change, and returns its outcome, which may be a refusal, and its body."""
        try:
            [(outcome, body)] = await self._database.change(query, business_id, *parameters)
        except psycopg.Error as error:
            if error.sqlstate == "HF003":
                raise Refused("SLUG_TAKEN") from error
            raise
        except (DatabaseDown, asyncio.CancelledError):
            announce_unknown(self._announce, business_id, CHANGE_SECONDS)
            raise
        return outcome, body


class PublicCatalogue(Record):
    """The public catalogue of a business."""

    business: PublicBusiness = Field(description="The business.")
    services: list[PublicService] = Field(description="The services that the public can book, by id.")
    resources: list[PublicResource] = Field(description="The resources that the public can book them with, by id.")


async def public_catalogue(reads: Reader, business_id: str) -> PublicCatalogue:
    """Reads what frontends show before a guest chooses a slot. Raises `Refused` and `Unavailable`."""
    return found(await reads.fetch("public_catalogue", business_id), PublicCatalogue, "BUSINESS_NOT_FOUND")


def _refused_entry(outcome: str, members: dict[str, Any]) -> HoldfastError:
    """Builds the error for an entry of a document that was refused: see booking.put_document."""
    path = ".".join(filter(None, (to_camel(members["member"]), members["id"])))
    error = refusal(outcome, members["body"])
    if not isinstance(error, Invalid):
        error.detail = f"{path}: {error.detail}"
    elif members["member"] != "business":  # whose members are those of the document itself
        for fault in error.faults:
            fault["field"] = f"{path}.{fault['field']}"
    return error
