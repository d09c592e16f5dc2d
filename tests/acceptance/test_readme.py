"""The README's tour, run line by line against a first start."""

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
