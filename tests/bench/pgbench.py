"""The yardstick in pgbench, from the package of the embedded server: PostgreSQL without HTTP, Python or JSON."""

import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.embedded.cluster import find_programs
from tests.bench.figures import Figures
from tests.bench.scenarios import Scenario
from tests.bench.targets import Machinery
from tests.database import at
from tests.processes import cpu_seconds
from tests.serving import wait_until

_THREADS: Final = 2
# pgbench is ended earlier, by the signal that its own timer sends. It counts connecting as part of the duration.
_MOST_SECONDS: Final = 120
# Each client demands the slots of the same sequence in turn, as the requests of a scenario do.
_SCRIPT: Final = """
\\set n :n + 1
\\set request :n * :clients + :client_id
\\set business :first_business + :request % :businesses
\\set hour :request / :businesses * :step
SELECT yardstick.reserve(
  'bench-' || :business, to_timestamp(:first_slot) + :hour * interval '1 hour', gen_random_uuid())
"""


@dataclass(frozen=True, slots=True)
class _Reading:
    """The counters at one instant. Each transaction of the yardstick takes one transaction id."""

    at: float
    transactions: int
    pgbench_cpu: float
    postgres_cpu: float


def measure_yardstick(machinery: Machinery, scenario: Scenario, *, clients: int, seconds: float) -> tuple[Figures, int]:
    """Measures the yardstick under the demand of a scenario, and returns how many transactions were not as expected.

    The figures begin after a warm-up, because connecting takes as much processor time as hundreds of transactions.
    """
    scenario.prepare_yardstick(machinery.database)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.sql")
        script.write_text(_SCRIPT)
        with subprocess.Popen(_command(machinery, scenario, clients, script), stdout=subprocess.PIPE, text=True) as run:
            wait_until(lambda: _connected(machinery) == clients, "the clients of pgbench")
            time.sleep(seconds / 5)
            before = _read(machinery, run.pid)
            time.sleep(seconds)
            after = _read(machinery, run.pid)
            run.send_signal(signal.SIGALRM)
            output, _ = run.communicate()
    total = _count("number of transactions actually processed", output)
    claims = machinery.database.value("SELECT count(*) FROM yardstick.claims")
    unexpected = abs(claims - (total if scenario.granted else scenario.businesses))
    return _figures(before, after), unexpected + _count("number of failed transactions", output)


def _figures(before: _Reading, after: _Reading) -> Figures:
    transactions = after.transactions - before.transactions
    return Figures(
        per_second=transactions / (after.at - before.at),
        load_us=(after.pgbench_cpu - before.pgbench_cpu) / max(1, transactions) * 1e6,
        postgres_us=(after.postgres_cpu - before.postgres_cpu) / max(1, transactions) * 1e6,
    )


def _command(machinery: Machinery, scenario: Scenario, clients: int, script: Path) -> list[str | Path]:
    variables = {
        "n": -1,
        "clients": clients,
        "businesses": scenario.businesses,
        "first_business": scenario.first_business,
        "step": 0 if scenario.one_slot else 1,
        "first_slot": round(at(0).timestamp()),
    }
    major = machinery.database.admin.info.server_version // 10_000
    return [
        find_programs(major) / "pgbench",
        *("--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={min(_THREADS, clients)}"),
        *(f"--define={name}={value}" for name, value in variables.items()),
        *(f"--time={_MOST_SECONDS}", f"--file={script}", machinery.database.url),
    ]


def _connected(machinery: Machinery) -> int:
    count: int = machinery.database.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'")
    return count


def _read(machinery: Machinery, pgbench: int) -> _Reading:
    return _Reading(
        transactions=int(machinery.database.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")),
        at=time.perf_counter(),
        pgbench_cpu=cpu_seconds(pgbench),
        postgres_cpu=machinery.postgres_cpu_seconds(),
    )


def _count(name: str, output: str) -> int:
    found = re.search(rf"^{name}: (\d+)", output, re.MULTILINE)
    assert found, output
    return int(found[1])
