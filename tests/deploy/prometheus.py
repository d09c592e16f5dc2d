"""A Prometheus that scrapes one service often, for tests of what the alert rules make of real metrics."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import yaml

from tests.serving import NO_CERTIFICATES, free_port, wait_until

PROGRAM: Final = shutil.which("prometheus")


class Prometheus:
    """Scrapes the service on a port every half second, under a job name that no rule knows."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._service = port
        self._url = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        assert PROGRAM
        targets = [{"targets": [f"127.0.0.1:{self._service}"]}]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{"job_name": "kubernetes-pods", "static_configs": targets}],
        }
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        options = {
            "config.file": self._folder / "prometheus.yml",
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": self._url.removeprefix("http://"),
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, *words], stdout=log, stderr=log)
        try:
            wait_until(self._is_ready, "Prometheus to answer")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, expression: str, **instant: float) -> list[dict[str, Any]]:
        """Evaluates an expression, now or at the instant `time`, and returns the samples of its result."""
        answer = httpx2.get(
            f"{self._url}/api/v1/query",
            params={"query": expression, **instant},
            trust_env=False,
            verify=NO_CERTIFICATES,
        )
        assert answer.status_code == 200, answer.text
        samples: list[dict[str, Any]] = answer.json()["data"]["result"]
        return samples

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            ready = httpx2.get(f"{self._url}/-/ready", trust_env=False, verify=NO_CERTIFICATES)
        except httpx2.TransportError:
            return False
        return ready.status_code == 200
