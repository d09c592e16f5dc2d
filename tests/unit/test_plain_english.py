"""Counts words of riddling prose in comments, docstrings and documents, against ceilings that may only be lowered."""

import ast
import io
import os
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

REPOSITORY: Final = Path(__file__).parents[2]

# Each of them hides the subject of a sentence, or tells a story where a fact is enough.
WORDS: Final = ("told", "whoever", "nobody", "somebody", "what is", "so many", "one that", "had")
# Counted words per 1,000 words of prose. A ceiling may be lowered to the figure of the day, never raised.
CEILINGS: Final = {"service": 2.4, "sql": 1.3, "tests": 1.5, "documents": 0.3}

# Folders of tools and of data. A checkout without git has no list of its files, so the folders are walked.
_NO_SOURCES: Final = re.compile(
    r"\.git|swagger-ui|\.?venv|\.data|build|dist|node_modules|__pycache__|\..*_cache|\.hypothesis|.*egg-info"
)
# Applied migrations must not change, not even their comments.
_UNCHANGEABLE: Final = Path("sql/migrations")
_HASH_SUFFIXES: Final = frozenset({".yaml", ".yml", ".toml", ".env", ".service", ".timer"})
_HASH_NAMES: Final = frozenset({"Dockerfile", "Dockerfile.dockerignore", "Makefile", ".gitignore", "run"})
_LINES_SHOWN: Final = 30
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_COUNTED: Final = re.compile(r"\b(" + "|".join(WORDS).replace(" ", r"\s+") + r")\b", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z']+")


class Line(NamedTuple):
    """A line of prose and its number in the file."""

    number: int
    text: str


class Finding(NamedTuple):
    """A counted word and the line on which it begins."""

    path: Path
    line: Line
    word: str


@cache
def prose(path: Path, source: str) -> list[Line] | None:
    """Returns the comments, docstrings or text of a file; None for a kind of file without prose."""
    match path.suffix:
        case ".py":
            return sorted({*_comments_of_python(source), *_docstrings(source)})
        case ".sql":
            return list(_after(r"--", source))
        case ".css" | ".js":
            return sorted({*_in_blocks(source), *_after(r"(?:^|(?<=\s))//", source)})
        case ".ini":
            return list(_after(r"^;", source))
        case ".md":
            return list(_outside_of_blocks(source))
    if path.suffix in _HASH_SUFFIXES or path.name in _HASH_NAMES:
        return list(_after(r"(?:^|(?<=\s))#", source))
    return None


def findings(path: Path, lines: list[Line]) -> list[Finding]:
    """Returns the counted words of a file; a pair of words may be parted by the end of a line."""
    text = "\n".join(line.text for line in lines)
    return [
        Finding(path, lines[text.count("\n", 0, found.start())], " ".join(found[0].lower().split()))
        for found in _COUNTED.finditer(text)
    ]


def files(root: Path) -> Iterator[Path]:
    """Yields the paths of all sources below a folder, relative to it."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _NO_SOURCES.fullmatch(name))
        yield from (Path(folder, name).relative_to(root) for name in sorted(names))


def area(path: Path) -> str:
    """Names the area of a file: its top folder if that has a ceiling of its own, else the documents."""
    top = path.parts[0]
    return top if top in CEILINGS else "documents"


def rates(root: Path) -> tuple[dict[str, float], list[Finding]]:
    """Returns the counted words per 1,000 words of each area, and every one of them."""
    words: Counter[str] = Counter()
    found: list[Finding] = []
    for path in files(root):
        if path.is_relative_to(_UNCHANGEABLE):
            continue
        lines = prose(path, (root / path).read_text(errors="replace"))
        if lines is not None:
            words[area(path)] += sum(len(_WORD.findall(line.text)) for line in lines)
            found += findings(path, lines)
    counted = Counter(area(finding.path) for finding in found)
    return {name: 1000 * counted[name] / max(1, words[name]) for name in CEILINGS}, found


def report(found: list[Finding]) -> str:
    """Lists the lines with the most counted words first."""
    by_line: dict[tuple[Path, Line], list[str]] = {}
    for finding in found:
        by_line.setdefault((finding.path, finding.line), []).append(finding.word)
    worst = sorted(by_line.items(), key=lambda item: -len(item[1]))[:_LINES_SHOWN]
    return "\n".join(f"{path}:{line.number}: {', '.join(words)}: {line.text.strip()}" for (path, line), words in worst)


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, float], list[Finding]]:
    """Counts the words of this checkout, once for all areas."""
    return rates(REPOSITORY)


@pytest.mark.parametrize("name", CEILINGS)
def test_the_prose_of_an_area_stays_below_its_ceiling(
    measured: tuple[dict[str, float], list[Finding]], name: str
) -> None:
    """Shows the worst lines of the area if there are too many of the counted words."""
    rate = measured[0][name]
    worst = report([finding for finding in measured[1] if area(finding.path) == name])
    assert rate <= CEILINGS[name], f"{rate:.1f} per 1,000 words, at most {CEILINGS[name]}:\n{worst}"


def test_the_sources_of_every_area_are_read() -> None:
    """Guards against a count of nothing, which is below every ceiling."""
    read = {path for path in files(REPOSITORY) if prose(path, (REPOSITORY / path).read_text(errors="replace"))}
    assert {(area(path), path.suffix) for path in read} >= {
        *((name, ".md") for name in ("service", "sql", "documents")),
        *((name, ".py") for name in ("service", "tests")),
        *(("service", suffix) for suffix in (".css", ".js")),
        *((name, ".sql") for name in ("sql", "tests", "documents")),
        *(("documents", suffix) for suffix in (".yaml", ".toml", ".ini", ".env", ".service", ".timer")),
    }
    assert read >= {Path(name) for name in ("README.md", "SECURITY.md", "Makefile", ".ci/run", "deploy/Dockerfile")}
    assert Path(__file__).relative_to(REPOSITORY) in read
    assert not {path for path in read if {".venv", ".git", ".data"} & set(path.parts)}


@pytest.mark.parametrize(
    ("name", "source", "number"),
    [
        ("module.py", '"""Does a thing.\n\n{}.\n"""\n', 3),
        ("function.py", 'def verb() -> None:\n    """{}."""\n', 2),
        ("class.py", 'class Verb:\n    """{}."""\n', 2),
        ("comment.py", "x = 1\n\n# {}.\n", 3),
        ("behind_code.py", "x = 1  # {}\n", 1),
        ("verb.sql", "SELECT 1;\n-- {}.\n", 2),
        ("behind_code.sql", "SELECT 1, -- {}\n2;\n", 1),
        ("page.md", "# Page\n\n{}.\n", 3),
        ("table.md", "| a | b |\n|---|---|\n| c | {} |\n", 3),
        ("manifest.yaml", "key: value\n# {}\n", 2),
        ("behind_a_value.yaml", "key: value  # {}\n", 1),
        ("Dockerfile", "FROM scratch\n# {}\n", 2),
        ("Makefile", "all: ## {}\n", 1),
        ("module.js", "const x = 1; // {}\n", 1),
        ("block.js", "/**\n * {}.\n */\n", 2),
        ("page.css", "a {{}}\n/* {} */\n", 2),
        ("pooler.ini", "a = b\n; {}\n", 2),
        ("example.env", "# {}\nA=\n", 1),
    ],
)
@pytest.mark.parametrize("word", WORDS)
def test_a_planted_word_is_found_in_every_kind_of_file(
    tmp_path: Path, name: str, source: str, number: int, word: str
) -> None:
    """Plants a word in a file of each area, and finds it at its line."""
    for folder in ("service", "sql", "tests", "deploy", "."):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source.format(f"It {word.capitalize()} here"))
    by_area, found = rates(tmp_path)
    assert all(by_area.values())
    assert {(finding.word, finding.line.number) for finding in found} == {(word, number)}
    assert len(found) == 5
    assert f"service/{name}:{number}: {word}: " in report(found)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("code.py", 'had = "nobody was told"\nprint("""somebody had""")\n'),
        ("code.sql", "SELECT told FROM had;\n"),
        ("code.js", 'const had = "https://whoever";\n'),
        ("code.yaml", "had: nobody\nurl: http://whoever#had\n"),
        ("block.md", "```\nnobody had\n```\n"),
        ("part_of_a_word.md", "A shadow of untold somebodyness; what isolates one thatch.\n"),
        ("data.json", '"nobody"\n'),
        ("sql/migrations/0001.sql", "-- had\n"),
        (".venv/module.py", "# had\n"),
        ("a.egg-info/page.md", "had\n"),
        (".mypy_cache/page.md", "had\n"),
    ],
)
def test_code_data_and_installed_files_are_not_counted(tmp_path: Path, name: str, source: str) -> None:
    """Counts prose only, and only prose that a change of this repository can improve."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert rates(tmp_path)[1] == []


def test_a_pair_of_words_is_found_across_the_end_of_a_line(tmp_path: Path) -> None:
    """Reports the line on which the pair begins."""
    (tmp_path / "module.py").write_text("x = 1\n# This is what\n# is counted.\n")
    [finding] = rates(tmp_path)[1]
    assert (finding.word, finding.line.number) == ("what is", 2)


def test_the_worst_line_is_reported_first(tmp_path: Path) -> None:
    """A message that begins with the lines that matter most."""
    (tmp_path / "page.md").write_text("It had one.\n\nNobody told somebody.\n")
    assert report(rates(tmp_path)[1]).splitlines() == [
        "page.md:3: nobody, told, somebody: Nobody told somebody.",
        "page.md:1: had: It had one.",
    ]


def _comments_of_python(source: str) -> Iterator[Line]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Line(token.start[0], token.string.lstrip("#"))


def _docstrings(source: str) -> Iterator[Line]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node):
            docstring = node.body[0]
            assert docstring.end_lineno
            for number in range(docstring.lineno, docstring.end_lineno + 1):
                yield Line(number, lines[number - 1])


def _after(mark: str, source: str) -> Iterator[Line]:
    """Yields the rest of each line behind the mark of a comment."""
    for number, line in enumerate(source.splitlines(), 1):
        if found := re.search(mark, line):
            yield Line(number, line[found.end() :])


def _in_blocks(source: str) -> Iterator[Line]:
    """Yields the lines of the comments between `/*` and `*/`."""
    for comment in re.finditer(r"/\*(.*?)\*/", source, re.DOTALL):
        first = source.count("\n", 0, comment.start()) + 1
        yield from (Line(number, text) for number, text in enumerate(comment[1].splitlines(), first))


def _outside_of_blocks(source: str) -> Iterator[Line]:
    """Yields the lines of a page that are not in a fenced block of code."""
    in_block = False
    for number, line in enumerate(source.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_block = not in_block
        elif not in_block:
            yield Line(number, line)
