"""The folder of the workers' counters, with others beside it."""

import tempfile
from pathlib import Path

import pytest

from service.process.metrics_folder import metrics_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the temporary folder of this machine one of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_folders_of_services_that_run_are_kept() -> None:
    """Any number of services share a machine."""
    with metrics_folder() as first, metrics_folder() as second:
        assert first != second
        assert first.is_dir()
    assert not first.exists()
    assert not second.exists()


def test_folders_that_nothing_locks_are_removed(temporary: Path) -> None:
    """A killed process has lost its lock. Other entries of the same name, and links, are left."""
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    link, file, abandoned = (temporary / f"holdfast-worker-metrics-{name}" for name in ("link", "file", "abandoned"))
    link.symlink_to(elsewhere)
    file.touch()
    abandoned.mkdir()
    (abandoned / "counter_1.db").touch()
    with metrics_folder() as folder:
        assert set(temporary.iterdir()) == {elsewhere, link, file, folder}


def test_a_folder_is_locked_before_another_start_can_see_it(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start at the moment between the two would remove it."""
    visible: list[Path] = []
    monkeypatch.setattr("fcntl.flock", lambda *_: visible.extend(temporary.glob("holdfast-worker-metrics-*")))
    with metrics_folder():
        assert visible == []
