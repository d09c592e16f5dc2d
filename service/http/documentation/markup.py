"""HTML put together so that text can't become markup: whatever is not `Html` already is escaped."""

import html
import re
from collections.abc import Iterable
from typing import Final

_VOID: Final = {"meta", "link"}


class Html(str):
    """Markup, with all text in it escaped."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """An element. Attributes are named as Python can: `class_`, `aria_label`."""
    given = "".join(f' {_name(key)}="{html.escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Text and markup, one after the other."""
    return Html(_escaped(between).join(_escaped(part) for part in parts))


def prose(text: str) -> Html:
    """Paragraphs and lists, as the document has them in the simplest of Markdown."""
    return joined(_list(block) if block.startswith("- ") else element("p", inline(block)) for block in _blocks(text))


def inline(text: str) -> Html:
    """One run of text with `code` and **strong** in it."""
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text)
    return joined(_marked(part) for part in parts)


def _marked(part: str) -> str:
    if part.startswith("`"):
        return element("code", part.strip("`"))
    return element("strong", part.strip("*")) if part.startswith("**") else part


def _blocks(text: str) -> list[str]:
    return [block for block in text.strip().split("\n\n") if block]


def _list(block: str) -> Html:
    return element("ul", *(element("li", inline(item)) for item in block.removeprefix("- ").split("\n- ")))


def _name(attribute: str) -> str:
    return attribute.rstrip("_").replace("_", "-")


def _escaped(text: str) -> Html:
    return text if isinstance(text, Html) else Html(html.escape(text))
