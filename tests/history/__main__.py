"""Runs clients and the nemesis for any time: python -m tests.history --seconds 600 --seed 7 --clients 48."""

import asyncio
import sys
import tempfile
from pathlib import Path

import click

from tests.history.run import Options, run
from tests.history.sabotage import SABOTAGES
from tests.proxy.servers import PLPROXY_IS_MISSING, plproxy_is_installed


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True, help="How long the clients run.")
@click.option("--seed", default=1, show_default=True, help="Of the clients' choices and of the faults.")
@click.option("--clients", default=32, show_default=True, help="How many clients run at once.")
@click.option("--faults/--no-faults", default=True, show_default=True, help="Whether the nemesis injects faults.")
@click.option("--sabotage", type=click.Choice([*SABOTAGES]), help="A broken variant, which the checker must find.")
@click.option("--proxy", is_flag=True, help="On a proxy with PL/Proxy and two nodes, which are faulted, too.")
def main(seconds: float, seed: int, clients: int, faults: bool, sabotage: str | None, proxy: bool) -> None:
    if proxy and not plproxy_is_installed():
        raise click.UsageError(PLPROXY_IS_MISSING)
    folder = Path(tempfile.mkdtemp(prefix="holdfast-history-"))
    result = asyncio.run(run(Options(seconds, seed, clients, sabotage, proxy, faults), folder, click.echo))
    click.echo(result.report())
    result.history.write(folder / "history.jsonl")
    click.echo(f"The history and the logs of the service are in {folder}")
    sys.exit(bool(result.verdict.violations))


if __name__ == "__main__":
    main()
