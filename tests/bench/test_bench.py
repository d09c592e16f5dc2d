"""The benchmark itself: that it runs. What it measures is for people to read."""

import subprocess
import sys

from tests.bench.decisions.rows import MEASUREMENTS
from tests.bench.scenarios import SCENARIOS
from tests.serving import REPOSITORY


def test_the_benchmark_runs_and_gets_the_answers_that_it_expects() -> None:
    """In its smallest form, so that it is not found broken on the day when the numbers are wanted."""
    smallest = ["--rounds", "1", "--seconds", "0.3", "--connections", "4"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench", *smallest], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for scenario in SCENARIOS:
        assert ended.stdout.count(f"\n{scenario.name} ") == 1
    assert ended.stdout.count("\nbeside a stampede ") == 1


def test_the_benchmark_of_decisions_runs_and_gets_the_outcomes_that_it_expects() -> None:
    """With a hundredth of the rows: every measurement gives at least one line, whatever its verdict."""
    smallest = ["--quick", "--planted", "0.01", "--calls", "10"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench.decisions", *smallest],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for number in range(1, len(MEASUREMENTS) + 1):
        assert f"\n{number} " in ended.stdout
