"""Tests that the benchmark runs. Its figures are for people to read."""

import subprocess
import sys

from tests.bench.decisions.rows import MEASUREMENTS
from tests.bench.rounds import BARE, HEALTH
from tests.bench.scenarios import SCENARIOS, SPREAD
from tests.serving import REPOSITORY


def test_the_benchmark_runs_and_gets_the_answers_that_it_expects() -> None:
    """Runs it in its smallest form: every scenario has a row in each of its tables."""
    ended = _run("tests.bench", "--rounds", "1", "--seconds", "0.3", "--connections", "4")
    assert ended.returncode == 0, ended.stderr
    for scenario in SCENARIOS:
        assert ended.stdout.count(f"\n{scenario.name} ") == 1
        in_other_tables = 3 if scenario in SPREAD else 2
        assert ended.stdout.count(f"\n  {scenario.name} ") == in_other_tables
    for name in (BARE, HEALTH):
        assert ended.stdout.count(f"\n{name} ") == 1
    assert ended.stdout.count("\n  beside a stampede ") == 2


def test_the_benchmark_of_decisions_runs_and_gets_the_outcomes_that_it_expects() -> None:
    """With a hundredth of the rows: every measurement gives at least one line, whatever its verdict."""
    ended = _run("tests.bench.decisions", "--quick", "--planted", "0.01", "--calls", "10")
    assert ended.returncode == 0, ended.stderr
    for number in range(1, len(MEASUREMENTS) + 1):
        assert f"\n{number} " in ended.stdout


def test_the_benchmark_of_neighbours_runs_and_gets_the_answers_that_it_expects() -> None:
    """Runs one short round with one attack."""
    ended = _run("tests.bench.neighbours", "--rounds", "1", "--seconds", "0.3", "--only", "names")
    assert ended.returncode == 0, ended.stderr
    assert "\nalone " in ended.stdout
    assert "\nnames without end " in ended.stdout


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
