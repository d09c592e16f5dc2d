"""The end of the workers when their supervisor is killed, so that none keeps the port."""

from pathlib import Path

import pytest

from tests.database import TestDatabase
from tests.serving import SECRETS, ServiceProcess, wait_until


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")
def test_workers_end_with_their_parent(database: TestDatabase, tmp_path: Path) -> None:
    """After kill -9 the supervisor cannot signal them."""
    service = ServiceProcess(tmp_path / "log", DATABASE_URL=database.url, WORKERS=2, **SECRETS)
    service.wait_until_ready()
    workers = service.worker_pids()
    assert len(workers) == 2
    service.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers to end")
