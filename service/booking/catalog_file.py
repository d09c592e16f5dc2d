"""The catalog of one business as a YAML file: its settings, resources, services, hours and closures."""

import json
import re
from calendar import day_name
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Final

import yaml
from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel
from yaml.constructor import ConstructorError

from service.booking.catalog import CLOSURE, RESOURCE, SERVICE, SPECIAL_HOURS, Catalog, Noun
from service.booking.catalog_types import MAX_LISTED, BusinessSettings, ResourceSettings
from service.booking.opening_types import ClosureSettings, OpeningHoursSettings, SpecialHoursSettings
from service.booking.service_types import ServiceSettings
from service.booking.text import Identifier, is_visible
from service.database.connections import Database
from service.errors import Invalid, Refused
from service.faults import FaultCode, faults_of
from service.naming import Record

_NOUNS: Final[tuple[Noun[Any, Any, Any], ...]] = (RESOURCE, SERVICE, SPECIAL_HOURS, CLOSURE)

_BREAKS: Final = re.compile("[\x85\u2028\u2029]")


class CatalogFileError(Exception):
    """The file can't be applied; the message has a line for each fault, with its path in the file."""


class CatalogFile(BusinessSettings):
    """The catalog of one business, with the member names of the HTTP API."""

    business_id: Identifier
    resources: dict[Identifier, ResourceSettings] = Field(default_factory=dict)
    services: dict[Identifier, ServiceSettings] = Field(default_factory=dict)
    opening_hours: Annotated[list[OpeningHoursSettings], Field(default_factory=list, max_length=MAX_LISTED)]
    special_hours: dict[Identifier, SpecialHoursSettings] = Field(default_factory=dict)
    closures: dict[Identifier, ClosureSettings] = Field(default_factory=dict)

    def entries(self, noun: Noun[Any, Any, Any]) -> dict[str, Any]:
        """Returns the entries of one kind, by their ids."""
        entries: dict[str, Any] = getattr(self, noun.read)
        return entries

    @property
    def business(self) -> BusinessSettings:
        """The settings of the business itself."""
        return BusinessSettings.model_validate(self.model_dump(include=set(BusinessSettings.model_fields)))

    @property
    def week(self) -> list[OpeningHoursSettings]:
        """The opening hours in the order in which the catalog returns them."""
        return sorted(
            self.opening_hours, key=lambda entry: (entry.resource_id or "", entry.weekday, entry.opens, entry.closes)
        )


def parse(text: bytes) -> CatalogFile:
    """Parses and validates a file. Raises `CatalogFileError`."""
    try:
        # Safe: the loader creates only text, numbers, lists and mappings.
        members = yaml.load(text, _Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogFileError(f"The file can't be read: {error}") from None
    if members is None:
        raise CatalogFileError("The file is empty")
    try:
        content = CatalogFile.model_validate(members)
    except ValidationError as error:
        raise CatalogFileError("\n".join(_faults(error))) from None
    if unknown := list(_unknown_owners(content)):
        raise CatalogFileError("\n".join(unknown))
    return content


def to_yaml(content: CatalogFile) -> str:
    """Returns the text of a file; `parse` reads it as equal content."""
    members = content.model_dump(mode="json", exclude_none=True)
    in_order = {"businessId": members.pop("businessId"), **members}
    return yaml.dump(in_order, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


async def export(catalog: Catalog, business_id: str) -> CatalogFile:
    """Reads the catalog of a business. Raises `Refused` if there is no such business, and `Unavailable`."""
    business = await catalog.business(business_id)
    entries = {
        to_camel(noun.read): {
            (entry_id := getattr(entry, noun.id_member)): _members(
                entry, entry_id, noun.id_member, "archived_resource_ids"
            )
            for entry in await catalog.entries(noun, business_id)
        }
        for noun in _NOUNS
    }
    hours = [
        entry.model_dump(mode="json", exclude={"business_id"}) for entry in await catalog.opening_hours(business_id)
    ]
    return CatalogFile.model_validate(
        {**_members(business, business_id), "businessId": business_id, **entries, "openingHours": hours}
    )


async def apply(database: Database, wanted: CatalogFile) -> list[str]:
    """Makes the catalog of a business equal to a file, in one transaction, and returns a line for each change.

    Raises `CatalogFileError` if the catalog refuses a change, and `Unavailable`.
    """
    business_id, lines = wanted.business_id, list[str]()
    async with database.transaction() as transaction:
        catalog = Catalog(transaction)
        # First, because it takes the lock of the business: the catalog read below stays unchanged until the commit.
        await _put_business(catalog, wanted, lines)
        former = await export(catalog, business_id)
        if unknown := list(_unknown_pools(former, wanted)):
            raise CatalogFileError("\n".join(unknown))
        await _put_differing(catalog, RESOURCE, former, wanted, lines)
        await _put_differing(catalog, SERVICE, former, wanted, lines)
        if former.week != wanted.week:
            lines.append("changed opening hours")
            hours = await catalog.put_opening_hours(business_id, wanted.week)
            for closed in hours.closed_by_own_hours:
                days = ", ".join(day_name[weekday - 1] for weekday in closed.weekdays)
                lines.append(f"warning: {closed.resource_id} is closed by its own hours on {days}")
        await _delete_surplus(catalog, SPECIAL_HOURS, former, wanted, lines)
        await _delete_changed_special_hours(catalog, former, wanted)
        await _put_differing(catalog, SPECIAL_HOURS, former, wanted, lines)
        await _put_differing(catalog, CLOSURE, former, wanted, lines)
        await _delete_surplus(catalog, CLOSURE, former, wanted, lines)
        await _delete_surplus(catalog, SERVICE, former, wanted, lines)
        # Last: once nothing refers to a resource, it is deleted instead of archived.
        await _delete_surplus(catalog, RESOURCE, former, wanted, lines)
    return lines


async def _put_business(catalog: Catalog, wanted: CatalogFile, lines: list[str]) -> None:
    former = None
    with suppress(Refused):
        former = BusinessSettings.model_validate(
            _members(await catalog.business(wanted.business_id), wanted.business_id)
        )
    with _refusals_at():
        await catalog.put_business(wanted.business_id, wanted.business)
    if _differ(former, wanted.business):
        lines.append(f"{'changed' if former else 'created'} business {wanted.business_id}")


async def _put_differing(
    catalog: Catalog, noun: Noun[Any, Any, Any], former: CatalogFile, wanted: CatalogFile, lines: list[str]
) -> None:
    """Creates or changes the entries that differ, and adds a line for each."""
    existing = former.entries(noun)
    for name, settings in wanted.entries(noun).items():
        if _differ(existing.get(name), settings):
            lines.append(f"{'changed' if name in existing else 'created'} {noun.name} {name}")
            with _refusals_at(to_camel(noun.read), name):
                await catalog.put(noun, wanted.business_id, name, settings)


async def _delete_changed_special_hours(catalog: Catalog, former: CatalogFile, wanted: CatalogFile) -> None:
    """Deletes the special hours that are put anew with other settings: others may take their dates."""
    for name, settings in former.special_hours.items():
        if name in wanted.special_hours and wanted.special_hours[name] != settings:
            await catalog.delete(SPECIAL_HOURS, wanted.business_id, name)


async def _delete_surplus(
    catalog: Catalog, noun: Noun[Any, Any, Any], former: CatalogFile, wanted: CatalogFile, lines: list[str]
) -> None:
    """Removes the entries that the file lacks, and adds a line for each."""
    for name in former.entries(noun):
        if name not in wanted.entries(noun):
            lines.append(f"removed {noun.name} {name}")
            with _refusals_at(to_camel(noun.read), name):
                await catalog.delete(noun, wanted.business_id, name)


@contextmanager
def _refusals_at(*path: str) -> Iterator[None]:
    """Turns a refusal of the catalog into a `CatalogFileError`, at the path of an entry or, by default, the business.

    A business is refused for its slug only; a faulty member is named by the refusal itself.
    """
    try:
        yield
    except Invalid as invalid:
        lines = (f"{'.'.join([*path, fault['field']])}: {fault['message']}" for fault in invalid.faults)
        raise CatalogFileError("\n".join(lines)) from None
    except Refused as refusal:
        members = ", ".join(f"{name} {value}" for name, value in refusal.members.items())
        place = ".".join(path) or "slug"
        raise CatalogFileError(f"{place}: {refusal.detail}" + (f" ({members})" if members else "")) from None


def _differ(former: Record | None, wanted: Record) -> bool:
    """Compares settings. Metadata is compared as JSON, because 1, 1.0 and true are equal in Python."""
    metadata = [json.dumps(getattr(settings, "metadata", None), sort_keys=True) for settings in (former, wanted)]
    return former != wanted or metadata[0] != metadata[1]


def _members(record: Record, entry_id: str, *without: str) -> dict[str, Any]:
    """Returns the members of an entry. A name without a visible character, which 0.1 accepted, becomes the id."""
    members = record.model_dump(mode="json", exclude={"business_id", *without})
    if not is_visible(members.get("name") or entry_id):
        members["name"] = entry_id
    return members


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in faults_of(error):
        path = ".".join(part for part in fault["field"].split(".") if part != "[key]")
        unknown = fault["code"] == FaultCode.UNKNOWN_MEMBER
        yield f"{path or 'the file'}: {'unknown member' if unknown else fault['message']}"


def _unknown_owners(content: CatalogFile) -> Iterator[str]:
    """Yields a line for each of the hours and closures whose resource the file does not define."""
    owners: list[tuple[str, str | None]] = [
        *((f"openingHours.{place}", entry.resource_id) for place, entry in enumerate(content.opening_hours)),
        *((f"specialHours.{name}", entry.resource_id) for name, entry in content.special_hours.items()),
        *((f"closures.{name}", entry.resource_id) for name, entry in content.closures.items()),
    ]
    for path, resource_id in owners:
        if resource_id and resource_id not in content.resources:
            yield f"{path}.resourceId: there is no resource {resource_id} in this file"


def _unknown_pools(former: CatalogFile, wanted: CatalogFile) -> Iterator[str]:
    """Yields a line for each member of a pool that the file does not define.

    A pool that lost all of its resources is read as the archived ones, so these are accepted where they are.
    """
    for name, service in wanted.services.items():
        archived = set(former.services[name].resource_ids) - set(former.resources) if name in former.services else set()
        for resource_id in service.resource_ids:
            if resource_id not in wanted.resources and resource_id not in archived:
                yield f"services.{name}.resourceIds: there is no resource {resource_id} in this file"


class _Loader(yaml.SafeLoader):
    """Reads plain words as YAML 1.2 does: `17:30`, `NO` and `2026-12-24` are text. PyYAML itself follows YAML 1.1.

    The keys of a mapping are text, and no key appears twice.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ARG002
        """Constructs a mapping and its contents. Raises `ConstructorError`."""
        mapping: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in mapping:
                raise ConstructorError(None, None, f"the key {key.value} appears twice", key.start_mark)
            mapping[key.value] = self.construct_object(value, deep=True)
        return mapping


class _Dumper(yaml.SafeDumper):
    """Writes breaks of Unicode escaped, in quotes: in other styles the loader folds some of them to a space."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Represents a string."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, '"' if _BREAKS.search(text) else None)


_Dumper.add_representer(str, _Dumper.represent_text)

_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+(?:e[-+][0-9]+)?$", list("-0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
