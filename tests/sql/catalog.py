"""Calls of the catalog in short form."""

import json
from typing import Any

import psycopg

from tests.database import NO_DEADLINE, Outcome, TestDatabase


def put_seats(database: TestDatabase, resource_id: str, seats: int | None, *, business_id: str = "salon") -> Outcome:
    """Puts a resource with a number of seats, or with none given."""
    settings = {"name": "room", "kind": "room", "booking_enabled": True, "seats": seats}
    return database.outcome("put_resource", business_id, resource_id, json.dumps(settings), NO_DEADLINE)


def delete_resource(database: TestDatabase, resource_id: str = "anna", *, business_id: str = "salon") -> Outcome:
    """Deletes a resource, or archives it if it was ever used."""
    return database.outcome("delete_resource", business_id, resource_id, NO_DEADLINE)


def put_special_hours(
    database: TestDatabase, special_hours_id: str, date: str, hours: list[tuple[str, str]], **members: Any
) -> Outcome:
    """Puts special hours of the salon: (opens, closes) of each entry, and optional members."""
    body = {"date": date, "hours": [{"opens": opens, "closes": closes} for opens, closes in hours], **members}
    return database.outcome("put_special_hours", "salon", special_hours_id, json.dumps(body), NO_DEADLINE)


def put_back(database: TestDatabase, service: dict[str, Any]) -> Outcome:
    """Puts a service as booking.services returned it."""
    ids = service["business_id"], service["service_id"]
    return database.outcome("put_service", *ids, json.dumps(service), NO_DEADLINE)


def put_service_on(connection: psycopg.Connection, settings: dict[str, Any]) -> str:
    """Puts the service "cut" of the salon on a given connection, and returns the name of the outcome."""
    query = "SELECT outcome FROM booking.put_service('salon', 'cut', %s, %s)"
    [(name,)] = connection.execute(query, [json.dumps(settings), NO_DEADLINE]).fetchall()
    return str(name)


def delete_service(database: TestDatabase, service_id: str = "cut", *, business_id: str = "salon") -> str:
    """Deletes a service, or archives it if it was ever claimed, and returns the name of the outcome."""
    return database.outcome("delete_service", business_id, service_id, NO_DEADLINE).name


def names_unknown(outcome: Outcome, resource_id: str, field: str = "resource_id") -> bool:
    """Returns whether a put was refused because a field names a resource that does not exist or is archived."""
    fault = {"field": field, "code": "unknown_resource", "parameters": {"resourceId": resource_id}}
    return (outcome.name, outcome.body) == ("validation_failed", fault)
