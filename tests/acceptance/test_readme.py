"""The README's tour, run line by line against a first start."""

import re
import shutil

import pytest

from tests.acceptance.readme import README, normalized, rewritten, tour


@pytest.mark.skipif(not shutil.which("ab"), reason="the tour uses ab (Debian's apache2-utils)")
@pytest.mark.skipif(not shutil.which("curl"), reason="the tour uses curl")
def test_the_readme_shows_what_is_answered() -> None:
    """Whoever follows it sees what it says. `python -m tests.acceptance.readme` renews it."""
    readme = README.read_text()
    with tour() as shell:
        assert normalized(rewritten(readme, shell)) == normalized(readme)


def test_the_readme_leads_into_the_embedded_database() -> None:
    """By one command: where it listens and with which password is in files that nobody would look for."""
    [command] = re.findall(r"^(PGPASSWORD=.*?)\n```", README.read_text(), re.MULTILINE | re.DOTALL)
    with tour() as shell:
        assert shell.run(f"{command} -Atc 'TABLE booking.slugs' | wc -l") == "4\n"
