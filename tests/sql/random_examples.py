"""Runs properties and state machines with random examples, fewer of them on a server older than PostgreSQL 18.

The decisions are the same SQL on both versions, so the older one needs enough examples to show that it runs them alike,
not as many as it takes to find a rare case.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

from tests.database import TestDatabase

# The older server runs this fraction of the examples, as a divisor.
_OLDER: Final = 4


def random_examples(
    count: int, /, **strategies: SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test of a property: its arguments are drawn by `strategies`, the others are fixtures, one a database."""

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(check)
        fixtures = [argument for name, argument in signature.parameters.items() if name not in strategies]

        # Not its attributes: Hypothesis keeps explicit examples there, and refuses them outside of `given`.
        @wraps(check, updated=())
        def run(**values: Any) -> None:
            [database] = (value for value in values.values() if isinstance(value, TestDatabase))
            _settings(database, count)(given(**strategies)(check))(**values)

        run.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined] # pytest reads it
        return run

    return decorate


def run_random_steps(
    machine: type[RuleBasedStateMachine], database: TestDatabase, *, steps: int, examples: int
) -> None:
    """Runs random sequences of the steps of a machine that uses a database; a failure is shrunk to the fewest steps."""
    chosen = _settings(database, examples, stateful_step_count=steps, phases=[Phase.generate, Phase.shrink])
    run_state_machine_as_test(machine, settings=chosen)


def _settings(database: TestDatabase, examples: int, **more: Any) -> settings:
    newest = database.admin.info.server_version >= 180_000
    return settings(
        max_examples=examples if newest else examples // _OLDER,
        database=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )
