"""Where the SQL is: inside the installed package, or beside it in the repository."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def sql_folder() -> Path:
    """The folder with migrations, functions and views. A wheel carries it inside the package."""
    installed = _PACKAGE / "sql"
    return installed if installed.is_dir() else _PACKAGE.parent / "sql"


def named_queries() -> dict[str, bytes]:
    """The statements of sql/queries.sql by their names, as bytes: they are data, not format strings."""
    text = (sql_folder() / "queries.sql").read_text(encoding="utf-8")
    sections = text.split("\n-- name: ")[1:]
    return {name.strip(): body.strip().encode() for name, _, body in (s.partition("\n") for s in sections)}
