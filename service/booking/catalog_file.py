"""One business kept in a YAML file: what it is, what it offers, with which resources, and when it is open."""

import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import Field, ValidationError

from service.booking.catalog import Catalog
from service.booking.catalog_settings import (
    MAX_LISTED,
    BusinessSettings,
    ClosureSettings,
    OpeningHoursSettings,
    ResourceSettings,
    ServiceSettings,
    Settings,
)
from service.booking.text import Identifier
from service.database.connections import Database
from service.errors import Invalid, Refused
from service.naming import Record

S = TypeVar("S", bound=Settings)


class CatalogFileError(Exception):
    """The file can't be applied; the message says why, with the path of each fault."""


class CatalogFile(BusinessSettings):
    """All that the catalog has of one business, by the names of the HTTP API."""

    business_id: Identifier
    resources: dict[Identifier, ResourceSettings] = Field(default_factory=dict)
    services: dict[Identifier, ServiceSettings] = Field(default_factory=dict)
    opening_hours: Annotated[list[OpeningHoursSettings], Field(default_factory=list, max_length=MAX_LISTED)]
    closures: dict[Identifier, ClosureSettings] = Field(default_factory=dict)

    @property
    def business(self) -> BusinessSettings:
        """The settings of the business itself."""
        return BusinessSettings.model_validate(self.model_dump(include=set(BusinessSettings.model_fields)))

    @property
    def week(self) -> list[OpeningHoursSettings]:
        """The opening hours in the order in which they are read."""
        return sorted(
            self.opening_hours, key=lambda entry: (entry.resource_id or "", entry.weekday, entry.opens, entry.closes)
        )


def parse(text: bytes) -> CatalogFile:
    """The contents of a file. Raises `CatalogFileError`."""
    try:
        # A safe loader: it makes nothing but text, numbers, lists and mappings.
        members = yaml.load(text, _Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogFileError(f"The file can't be read: {error}") from None
    if members is None:
        raise CatalogFileError("The file is empty")
    try:
        content = CatalogFile.model_validate(members)
    except ValidationError as error:
        raise CatalogFileError("\n".join(_faults(error))) from None
    if strangers := list(_strangers(content)):
        raise CatalogFileError("\n".join(strangers))
    return content


def written(content: CatalogFile) -> str:
    """The file that has these contents."""
    members = content.model_dump(mode="json", exclude_none=True)
    in_order = {"businessId": members.pop("businessId"), **members}
    return yaml.safe_dump(in_order, sort_keys=False, allow_unicode=True, width=120)


async def export(catalog: Catalog, business_id: str) -> CatalogFile:
    """What the catalog has of a business. Raises `Refused` and `Unavailable`."""
    business = await catalog.business(business_id)
    return CatalogFile.model_validate(
        {
            **_told(business),
            "businessId": business_id,
            "resources": {r.resource_id: _told(r, "resource_id") for r in await catalog.resources(business_id)},
            "services": {s.service_id: _told(s, "service_id") for s in await catalog.services(business_id)},
            "openingHours": [_told(entry) for entry in await catalog.opening_hours(business_id)],
            "closures": {c.closure_id: _told(c, "closure_id") for c in await catalog.closures(business_id)},
        }
    )


async def apply(database: Database, wanted: CatalogFile) -> list[str]:
    """Makes the catalog of a business equal to a file, in one transaction, and returns a line for each change.

    Raises `CatalogFileError`, if the catalog refuses something that the file wants, and `Unavailable`.
    """
    async with database.transaction() as transaction:
        return await _Change(Catalog(transaction), wanted).make()


class _Change:
    """What it takes to make the catalog of a business equal to a file."""

    def __init__(self, catalog: Catalog, wanted: CatalogFile) -> None:
        self._catalog = catalog
        self._wanted = wanted
        self._lines: list[str] = []

    async def make(self) -> list[str]:
        """Makes the changes and returns a line for each."""
        catalog, wanted, business_id = self._catalog, self._wanted, self._wanted.business_id
        # First of all, because it takes the lock: what is read from then on nobody else changes.
        await self._put_business()
        former = await export(catalog, business_id)
        for resource_id, resource in self._differing("resource", former.resources, wanted.resources):
            await catalog.put_resource(business_id, resource_id, resource)
        for service_id, service in self._differing("service", former.services, wanted.services):
            with _refusals_at(f"services.{service_id}"):
                await catalog.put_service(business_id, service_id, service)
        if former.week != wanted.week:
            self._lines.append("changed opening hours")
            await catalog.put_opening_hours(business_id, wanted.week)
        for closure_id, closure in self._differing("closure", former.closures, wanted.closures):
            await catalog.put_closure(business_id, closure_id, closure)
        for closure_id in self._surplus("closure", former.closures, wanted.closures):
            await catalog.delete_closure(business_id, closure_id)
        for service_id in self._surplus("service", former.services, wanted.services):
            await catalog.delete_service(business_id, service_id)
        # Last: what nothing needs any more is deleted, and not archived.
        for resource_id in self._surplus("resource", former.resources, wanted.resources):
            await catalog.delete_resource(business_id, resource_id)
        return self._lines

    async def _put_business(self) -> None:
        business_id = self._wanted.business_id
        try:
            former = BusinessSettings.model_validate(_told(await self._catalog.business(business_id)))
        except Refused:
            former = None
        with _refusals_at("slug"):
            await self._catalog.put_business(business_id, self._wanted.business)
        if former != self._wanted.business:
            self._lines.append(f"{'changed' if former else 'created'} business {business_id}")

    def _differing(self, noun: str, former: Mapping[str, S], wanted: Mapping[str, S]) -> Iterator[tuple[str, S]]:
        """What is to be put."""
        for name, settings in wanted.items():
            if former.get(name) != settings:
                self._lines.append(f"{'changed' if name in former else 'created'} {noun} {name}")
                yield name, settings

    def _surplus(self, noun: str, former: Mapping[str, S], wanted: Mapping[str, S]) -> Iterator[str]:
        """What is to be taken off."""
        for name in former:
            if name not in wanted:
                self._lines.append(f"removed {noun} {name}")
                yield name


@contextmanager
def _refusals_at(path: str) -> Iterator[None]:
    """Tells a refusal as a fault of the file."""
    try:
        yield
    except Invalid as invalid:
        faults: Any = invalid.members["errors"]
        raise CatalogFileError("\n".join(f"{fault['field']}: {fault['message']}" for fault in faults)) from None
    except Refused as refusal:
        said = ", ".join(f"{name} {value}" for name, value in refusal.members.items())
        raise CatalogFileError(f"{path}: {refusal.detail}" + (f" ({said})" if said else "")) from None


def _told(record: Record, *without: str) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude={"business_id", *without})


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_input=False):
        path = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        unknown = fault["type"] == "extra_forbidden"
        message = "unknown member" if unknown else fault["msg"].removeprefix("Value error, ")
        yield f"{path or 'the file'}: {message}"


def _strangers(content: CatalogFile) -> Iterator[str]:
    """Resources that are named somewhere and are not in the file."""
    named = [
        (f"services.{service_id}.resourceIds", resource_id)
        for service_id, service in content.services.items()
        for resource_id in service.resource_ids
    ]
    named += [
        (f"openingHours.{position}.resourceId", entry.resource_id)
        for position, entry in enumerate(content.opening_hours)
        if entry.resource_id
    ]
    named += [
        (f"closures.{closure_id}.resourceId", closure.resource_id)
        for closure_id, closure in content.closures.items()
        if closure.resource_id
    ]
    for path, resource_id in named:
        if resource_id not in content.resources:
            yield f"{path}: there is no resource {resource_id} in this file"


class _Loader(yaml.SafeLoader):
    """Takes plain words as people mean them: `17:30` is no number of seconds, `NO` is a country, `2026-12-24` is text.

    That is what YAML 1.2 says; the library follows 1.1. The keys of a mapping are text, and each is there once.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ARG002
        """A mapping, with all that is in it."""
        mapping: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in mapping:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} appears twice", key.start_mark
                )
            mapping[key.value] = self.construct_object(value, deep=True)
        return mapping


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$", list("-0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
