"""The documents for operators, `deploy/*.md`, as pages: they can be read where there is no internet and no checkout."""

import html
import re
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from markdown_it.token import Token

_PACKAGE: Final = Path(__file__).parents[1]
# A link to a document, or to a place in one.
_TO_DOCUMENT: Final = re.compile(r"(?:[\w-]+\.md)?(?:#.*)?")


def guides() -> dict[str, Path]:
    """Returns the documents by their file names: inside an installed package, or beside it in the repository."""
    installed = _PACKAGE / "deploy"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "deploy"
    return {path.name: path for path in folder.glob("*.md")}


@cache
def guide_page(path: Path) -> bytes:
    """Renders a document as a page. Headings have the anchors that GitHub gives them. Links to other documents work;
    those to other files of the repository, which are not served, become text."""
    # Imported with the first document that is asked for: it takes 40 ms, which no start of a process should wait for.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(path.read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(inline.content))
        _unlink_others(inline.children or ())
    title = next(inline.content for opening, inline in pairwise(tokens) if opening.type == "heading_open")
    body = markdown.renderer.render(tokens, markdown.options, {})
    return page(title, body, style="../docs.css").encode()


def page(title: str, body: str, *, style: str = "docs.css") -> str:
    """Builds a page of documentation from its title and the HTML of its body. `style` leads to the style sheet."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Holdfast: {html.escape(title)}</title>\n"
        f'<link rel="icon" href="data:,">\n<link rel="stylesheet" href="{style}">\n</head>\n<body>\n'
        f'<main class="page">\n{body}</main>\n</body>\n</html>\n'
    )


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _unlink_others(tokens: "Iterable[Token]") -> None:
    is_unlinked = False
    for token in tokens:
        if token.type == "link_open":
            is_unlinked = not _TO_DOCUMENT.fullmatch(str(token.attrs["href"]))
        if token.type in ("link_open", "link_close") and is_unlinked:
            token.tag, token.attrs = "span", {}
