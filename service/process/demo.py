"""The demo catalog: a salon, a clinic, a kennel whose tiers of suites are services, and two tennis courts."""

from pathlib import Path

from service.booking import catalog_file
from service.booking.catalog import Catalog
from service.database.connections import Database

# Files in the form that `catalog apply` takes.
_FILES = sorted((Path(__file__).parent / "demo_catalog").glob("*.yaml"))


async def make_demo_catalog(database: Database) -> None:
    """Fills an empty catalog with the demo businesses; leaves any other catalog unchanged. Raises `Unavailable`."""
    if not await Catalog(database).businesses():
        for content in [catalog_file.parse(path.read_bytes()) for path in _FILES]:
            await catalog_file.apply(database, content)
