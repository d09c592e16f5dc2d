"""A minute of clients and faults against real services: their histories have no violation. See service/README.md."""

from pathlib import Path

import pytest

from tests.history.run import Options, Result, run
from tests.history.sabotage import SABOTAGES
from tests.proxy.servers import PLPROXY_IS_MISSING, plproxy_is_installed

pytestmark = pytest.mark.anyio

SEED = 20270104


async def recorded_run(options: Options, folder: Path) -> Result:
    """Makes a run, prints its report, and keeps the history in the folder of the test."""
    result = await run(options, folder, print)
    print(f"seed {options.seed}; the history and the logs are in {folder}", result.report(), sep="\n")  # noqa: T201
    result.history.write(folder / "history.jsonl")
    return result


async def test_the_history_of_clients_and_faults_has_no_violation(tmp_path: Path) -> None:
    """Processes are killed and stopped, connections cut, locks held and the clock is moved, while clients do all that
    the API offers. Each invariant is compared with what they were answered."""
    check_result(await recorded_run(Options(seconds=30, seed=SEED, clients=32), tmp_path))


@pytest.mark.skipif(not plproxy_is_installed(), reason=PLPROXY_IS_MISSING)
async def test_the_history_on_a_proxy_has_no_violation(tmp_path: Path) -> None:
    """The same where each of two nodes has some of the businesses. Faults meet the proxy or one of the nodes."""
    check_result(await recorded_run(Options(seconds=20, seed=SEED, clients=32, proxy=True), tmp_path))


def check_result(result: Result) -> None:
    """Checks that a run has no violation, and that it compared something."""
    assert result.verdict.violations == []
    assert result.faults.total() >= 5
    assert any(call.is_unknown for call in result.history.calls)
    assert min(result.verdict.comparisons.values()) >= 20


@pytest.mark.parametrize("name", ["no lock"])
async def test_a_broken_variant_is_found(tmp_path: Path, name: str) -> None:
    """Without the lock of the business, the same clients oversell within some hundred calls, and the checker finds it.
    The other variants take longer: make history ARGS='--sabotage …'."""
    options = Options(seconds=4, seed=SEED, clients=32, sabotage=name, faults=False, least_calls=1000)
    result = await recorded_run(options, tmp_path)
    assert SABOTAGES[name].breaks & {violation.invariant for violation in result.verdict.violations}
