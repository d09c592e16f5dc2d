"""sql/README.md: its diagrams and its layout are those of the database and the folder."""

import itertools
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from service.database.migrations import sql_folder
from tests.database import TestDatabase, at

README = (sql_folder() / "README.md").read_text()
ENDED = ("cancelled", "completed", "no_show")


def transitions(number: int) -> set[tuple[str, str]]:
    """The arrows between states in one of the two diagrams; [*] is where a row does not exist."""
    diagrams = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", README, re.DOTALL)
    assert len(diagrams) == 2
    return set(re.findall(r"(\S+) --> (\S+):", diagrams[number]))


@pytest.mark.parametrize(("number", "table"), [(0, "reservations"), (1, "appointments")])
def test_the_diagrams_have_the_states_of_the_tables(database: TestDatabase, number: int, table: str) -> None:
    """A state that a migration adds has to be drawn."""
    definition = database.value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", f"{table}_status_check"
    )
    states = {state for arrow in transitions(number) for state in arrow} - {"[*]"}
    assert states == set(re.findall(r"'(\w+)'", definition))


def test_reservations_have_the_transitions_of_the_diagram(database: TestDatabase) -> None:
    """Each verb is called in each state, before and after the expiry; the purge deletes what has ended."""
    database.make_service(capacity=100)
    database.freeze_clock()
    steps: dict[str, Callable[[str], object]] = {
        "release": database.release,
        "commit": database.commit,
        "extend": lambda hold: database.extend(hold, 20),
        "expire": lambda _: database.move_clock(timedelta(hours=1)),
        "purge": lambda _: database.purge(),
        "delete": lambda _: database.purge(retention=timedelta(seconds=1)),
    }

    def stored(hold: str) -> list[tuple[str, int]]:
        return database.rows("SELECT status, version FROM booking.reservations WHERE reservation_id = %s", hold)

    seen = {("[*]", "held")}
    for path in itertools.product(("extend", "release", "commit", "expire"), steps, ("purge",), ("delete",)):
        hold = database.reserve().id
        for step in path:
            before = stored(hold)
            database.move_clock(timedelta(seconds=2))
            steps[step](hold)
            if (after := stored(hold)) != before:
                seen.add((before[0][0], after[0][0] if after else "[*]"))
    assert seen == transitions(0)


@pytest.mark.parametrize("state", ["confirmed", *ENDED])
def test_appointments_have_the_transitions_of_the_diagram(database: TestDatabase, state: str) -> None:
    """Each state is requested in each state. A move within `confirmed` has an arrow, and no other state has one."""
    database.make_service(capacity=100)
    database.freeze_clock(at(10))
    drawn = {target for source, target in transitions(1) if source == state}
    reached = set()

    def appointment_in_state() -> str:
        appointment = database.book(10).id
        if state != "confirmed":
            assert database.change(appointment, set={"status": state}).name == "done"
        return appointment

    for target in ("confirmed", *ENDED):
        outcome = database.change(appointment_in_state(), set={"status": target})
        if target == state:
            assert outcome.name == "done"
        elif outcome.name == "done":
            reached.add(target)
        else:
            assert outcome.name == "appointment_ended"
        if outcome.name == "done":
            assert outcome.body["status"] == target
    if database.change(appointment_in_state(), set={"quantity": 2}).name == "done":
        reached.add(state)
    assert reached == drawn
    assert {target for source, target in transitions(1) if source == "[*]"} == {"confirmed"}


def test_the_layout_lists_every_file_and_folder() -> None:
    """Each entry of sql/ has its line, and each line its entry; so have the files of the verbs."""
    listed = set(re.findall(r"^\| `([\w./-]+)` \|", README.partition("### Where")[0], re.MULTILINE))
    folders = {path for path in sql_folder().rglob("*") if path.is_dir()}
    parents = {path.parent for path in folders}
    entries = {f"{path.relative_to(sql_folder())}/" for path in folders if path not in parents}
    entries |= {path.name for path in sql_folder().iterdir() if path.is_file() and path.name != "README.md"}
    assert listed == entries


def test_the_glossary_has_no_word_twice() -> None:
    """One word for one thing, and one line for one word."""
    glossary = README.partition("## Glossary")[2].partition("\n## ")[0]
    words = re.findall(r"^\| ([a-z ]+) \|", glossary, re.MULTILINE)[1:]
    assert len(words) > 20
    assert sorted(set(words)) == sorted(words)


def test_every_function_and_view_that_the_page_names_exists(database: TestDatabase) -> None:
    """What was renamed is renamed here too."""
    named = set(re.findall(r"`booking\.(\w+)`", README))
    rows = database.rows(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'booking'::regnamespace "
        "UNION SELECT relname::text FROM pg_class WHERE relnamespace = 'booking'::regnamespace "
        "UNION SELECT typname::text FROM pg_type WHERE typnamespace = 'booking'::regnamespace"
    )
    assert len(named) > 10
    assert named <= {name for (name,) in rows}
