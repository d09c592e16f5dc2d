"""PostgreSQL without HTTP, Python and JSON around it: pgbench, from the package of the embedded server."""

import re
import subprocess
import tempfile
from pathlib import Path

from service.embedded.cluster import find_programs

THREADS = 2


def run_pgbench(url: str, script: str, *, clients: int, seconds: float, major: int = 18) -> tuple[float, int]:
    """Runs a script for so long, at least a second, and returns transactions per second and in all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "script.sql")
        path.write_text(script)
        arguments = ["--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={min(THREADS, clients)}"]
        arguments += ["--define=n=-1", f"--time={max(1, round(seconds))}", f"--file={path}", url]
        ended = subprocess.run(
            [find_programs(major) / "pgbench", *arguments], capture_output=True, text=True, check=True
        )
    per_second = re.search(r"^tps = ([\d.]+)", ended.stdout, re.MULTILINE)
    total = re.search(r"^number of transactions actually processed: (\d+)", ended.stdout, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: 0 ", ended.stdout, re.MULTILINE)
    assert per_second, ended.stdout
    assert total, ended.stdout
    assert failed, ended.stdout
    return float(per_second[1]), int(total[1])
