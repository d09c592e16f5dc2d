"""The list of URLs of a proxy and its partitions, before any of them is connected to."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from service.database.migrations import MigrationError
from service.database.proxying import _check_urls

PROXY, NORTH, SOUTH = (f"postgresql:///?service={name}" for name in ("proxy", "north", "south"))


@pytest.mark.parametrize(
    ("urls", "refusal"),
    [
        ([NORTH, SOUTH], None),
        ([NORTH, "host=127.0.0.1 port=1 dbname=north"], "names a database twice"),
    ],
)
def test_databases_are_compared_as_libpq_finds_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, urls: list[str], refusal: str | None
) -> None:
    """Host, port and name of a database may be in a service file."""
    services = (f"[{name}]\nhost=127.0.0.1\nport=1\ndbname={name}\n" for name in ("proxy", "north", "south"))
    (tmp_path / "services").write_text("".join(services))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with pytest.raises(MigrationError, match=refusal) if refusal else nullcontext():
        _check_urls(PROXY, urls, PROXY)
