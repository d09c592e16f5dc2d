"""The SQL files: inside the installed package, or beside it in the repository."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def sql_folder() -> Path:
    """Returns the folder with the migrations, functions and views. A wheel contains it inside the package."""
    installed = _PACKAGE / "sql"
    return installed if installed.is_dir() else _PACKAGE.parent / "sql"


def named_queries() -> dict[str, bytes]:
    """Reads the statements of sql/queries.sql, by name; as bytes, because psycopg takes only literals as str."""
    text = (sql_folder() / "queries.sql").read_text(encoding="utf-8")
    sections = text.split("\n-- name: ")[1:]
    return {name.strip(): body.strip().encode() for name, _, body in (s.partition("\n") for s in sections)}
