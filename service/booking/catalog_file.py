"""The document of a business's catalog as a YAML file."""

import re
from calendar import day_name
from collections.abc import Hashable, Iterator
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError
from yaml.constructor import ConstructorError

from service.booking.catalog import Catalog
from service.booking.document import (
    NOUNS,
    AppliedDocument,
    CatalogDocument,
    CatalogSettings,
    DocumentChange,
    DocumentWarning,
)
from service.booking.text import Identifier
from service.errors import Invalid, Refused
from service.faults import FaultCode, faults_of

_BREAKS: Final = re.compile("[\x85\u2028\u2029]")


class CatalogFile(CatalogSettings):
    """The content of a file."""

    business_id: Identifier = Field(description="The business, by its id in the catalog.")


class CatalogFileError(Exception):
    """The file can't be applied; the message has a line for each fault, with its path in the file."""


def parse(text: bytes) -> CatalogFile:
    """Parses and validates a file. Raises `CatalogFileError`."""
    try:
        # Safe: the loader creates only text, numbers, lists and mappings.
        members = yaml.load(text, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise CatalogFileError(f"The file can't be read: {error}") from None
    except RecursionError:
        raise CatalogFileError("The file can't be read: it is nested too deeply") from None
    if members is None:
        raise CatalogFileError("The file is empty")
    try:
        return CatalogFile.model_validate(members)
    except ValidationError as error:
        raise CatalogFileError("\n".join(_faults(error))) from None


def to_yaml(content: CatalogDocument | CatalogFile) -> str:
    """Returns the text of a file; `parse` reads it as equal content."""
    members = content.model_dump(mode="json", exclude_none=True)
    in_order = {"businessId": members.pop("businessId"), **members}
    return yaml.dump(in_order, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


async def apply(catalog: Catalog, wanted: CatalogFile) -> list[str]:
    """Makes the catalog of a business equal to a file, and returns a line for each change and for each warning.

    Raises `CatalogFileError` if the catalog refuses a change, and `Unavailable`.
    """
    try:
        applied = await catalog.put_document(wanted.business_id, wanted)
    except Invalid as invalid:
        raise CatalogFileError("\n".join(f"{fault['field']}: {fault['message']}" for fault in invalid.faults)) from None
    except Refused as refusal:
        members = ", ".join(f"{name} {value}" for name, value in refusal.members.items())
        raise CatalogFileError(refusal.detail + (f" ({members})" if members else "")) from None
    return list(_lines(applied, wanted.business_id))


def _lines(applied: AppliedDocument, business_id: str) -> Iterator[str]:
    for change in applied.changes:
        yield f"{change.action} {_name(change, business_id)}"
    for warning in applied.warnings:
        if warning.weekdays:
            days = ", ".join(day_name[weekday - 1] for weekday in warning.weekdays)
            yield f"warning: {warning.resource_id} is closed by its own hours on {days}"
        elif warning.affected_appointments:
            yield f"warning: {_name(warning, business_id)} affects {warning.affected_appointments.count} appointments"


def _name(subject: DocumentChange | DocumentWarning, business_id: str) -> str:
    if subject.member == "business":
        return f"business {business_id}"
    return f"{NOUNS[subject.member]} {subject.id}" if subject.id else "opening hours"


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in faults_of(error):
        unknown = fault["code"] == FaultCode.UNKNOWN_MEMBER
        yield f"{fault['field'] or 'the file'}: {'unknown member' if unknown else fault['message']}"


class _Loader(yaml.SafeLoader):
    """Reads plain words as YAML 1.2 does: `17:30`, `NO` and `2026-12-24` are text. PyYAML itself follows YAML 1.1.

    The keys of a mapping are text, and no key appears twice.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Constructs a value. Raises `ConstructorError` with its place, where PyYAML raises an error of Python."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise ConstructorError(None, None, f"this is no value of the type {kind}", node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ARG002
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
