"""Runs random sequences of the steps of a state machine."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.database import TestDatabase


def run_random_steps(
    machine: type[RuleBasedStateMachine], database: TestDatabase, *, steps: int, examples: int, examples_of_older: int
) -> None:
    """Runs a machine that uses a database; a failure is shrunk to the fewest steps.

    `examples` is the number of sequences, `examples_of_older` that on a server older than PostgreSQL 18.
    """
    newest = database.admin.info.server_version >= 180_000
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples if newest else examples_of_older,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
