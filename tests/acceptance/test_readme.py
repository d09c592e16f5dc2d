"""The tours of the documents, run command by command against a first start."""

import re
import shutil
from pathlib import Path

import pytest

from tests.acceptance.readme import RUNBOOK, TOURS, as_shown, normalized, rewritten, steps, tour


@pytest.mark.skipif(not shutil.which("curl"), reason="the tours use curl")
@pytest.mark.parametrize("document", TOURS, ids=lambda path: path.name)
def test_the_tour_shows_what_is_answered(document: Path) -> None:
    """Compares each answer with that of its document. `python -m tests.acceptance.readme` renews them."""
    text = document.read_text()
    with tour() as shell:
        assert normalized(rewritten(text, shell)) == normalized(text)


def test_the_runbook_leads_into_the_embedded_database() -> None:
    """Runs its one command, which finds the port and the password in files of the data folder."""
    [command] = re.findall(r"^(PGPASSWORD=.*?)\n```", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    with tour() as shell:
        assert shell.run(f"{command} -Atc 'TABLE booking.slugs' | wc -l") == "8\n"


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ('{"a":1,"b":[1,2]}', '{"a": 1, "b": [1, 2]}'),
        ('{"a":1,"b":2}', '{"a": 1, …}'),
        ('{"b":2,"a":1,"c":3}', '{"a": 1, "b": 2, …}'),
        ('{"a":[1,2,3]}', '{"a": [1, …]}'),
        ('{"a":[{"b":1,"c":2},{"b":3,"c":4}]}', '{"a": [{"b": 1, …}, {"b": 3, …}]}'),
        ('{"a":{"b":1,"c":2},"d":3}', '{"a": {"b": 1, …}, …}'),
        ("204", "204"),
        ("10 granted", "10 granted"),
    ],
)
def test_an_answer_is_cut_like_the_one_that_is_shown(answer: str, shown: str) -> None:
    """Leaves out what "…" stands for, and keeps the rest."""
    assert as_shown(f"{answer}\n", f"{shown}\n") == f"{shown}\n"


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ('{"a":2,"b":2}', '{"a": 1, …}'),
        ('{"b":2}', '{"a": 1, …}'),
        ('{"a":1}', '{"a": 1, …}'),
        ('{"a":1,"b":2}', '{"a": 1}'),
        ('{"a":1}', '{"a": 1, "b": 2}'),
        ('{"a":[2,1]}', '{"a": [1, …]}'),
        ('{"a":[1]}', '{"a": [1, …]}'),
        ('{"a":[1,2]}', '{"a": [1]}'),
        ('{"a":[]}', '{"a": [1, …]}'),
        ('{"a":[1]}', '{"a": []}'),
        ('{"a":[{"b":1,"c":2}]}', '{"a": [{"b": 1}]}'),
        ('{"a":{"b":2,"c":3}}', '{"a": {"b": 1, …}}'),
        ("409", "204"),
        ("9 granted", "10 granted"),
        ("no JSON", '{"a": 1, …}'),
        ('{"a":1}', "no JSON"),
    ],
)
def test_another_answer_than_the_one_that_is_shown_is_noticed(answer: str, shown: str) -> None:
    """A value, a member or an entry that differs, or that is missing on either side, is not cut away."""
    assert normalized(as_shown(f"{answer}\n", f"{shown}\n")) != normalized(f"{shown}\n")


def test_a_long_answer_is_broken_between_its_members() -> None:
    """Keeps the documents within the width of a screen, and reads back what it has written."""
    first, second = f'"first": "{"a b " * 15}"', f'"second": "{"c-d-" * 15}"'
    answer = f'{{{first}, {second}, "third": [1, 2]}}'
    shown = f"{{{first},\n {second}, …}}\n"
    assert as_shown(answer, shown) == shown


def test_the_width_of_a_value_is_no_difference() -> None:
    """A longer duration may move the break of a line, and the answer still agrees."""
    short, long = (f'{{"a": "{"x" * 80}", "durationMs": {duration}, "b": 1}}' for duration in ("1", "1000000000"))
    assert as_shown(short, "{}") != as_shown(long, "{}")
    assert normalized(as_shown(short, "{}")) == normalized(as_shown(long, "{}"))


def test_commands_and_answers_are_separated() -> None:
    """A command goes on while its lines end with a backslash; an answer goes on until the next prompt."""
    assert steps("$ one \\\n    more\n{\n 1}\n$ two\n") == [("one \\\n    more", "{\n 1}\n"), ("two", "")]
