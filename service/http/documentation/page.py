"""The docs page: the OpenAPI document for people, in the order in which the calls are used.

It is written from the document alone, has no script, and refers to nothing but its style sheet: so it works
offline, with a keyboard, and under a strict Content-Security-Policy.
"""

from collections.abc import Sequence
from typing import Final

from service.http.documentation.access import access_table
from service.http.documentation.calls import (
    Json,
    call_article,
    code_block,
    folded_example,
    members,
    shape_of_body,
)
from service.http.documentation.markup import Html, element, joined, prose

# As the page itself refers to it: relative, so that both may stand behind a prefix.
STYLE_SHEET: Final = "docs/style.css"
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='4' fill='%230b6b57'/%3E"
    "%3Cpath d='M5 4v8M11 4v8M5 8h6' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)
# In the place of the service's own address, which each reader knows it by: that is put there with each answer.
ADDRESS: Final = "https://service.invalid"
_TRY: Final = """\
The examples below are lines for a shell, made for the demo catalog. Tell it once where the service is, which is the \
address of this page without `/docs`, and the two secrets that they use. With the embedded database those are in \
`.data/secrets.json`; otherwise ask whoever runs the service:
"""
_REPLACE: Final = """\
Then put what your own calls were answered in the place of what the examples have:

- `reservationId`: in the answer to reserve.
- `appointmentId`: in the answer to commit, or to whichever call booked.
- `keyId`: in the answer in which the API key was made, and in the list of keys.
- `key` of a calendar feed: in its `path` in the list of calendar feeds.
"""
_FROM_FILE: Final = """$(python3 -c 'import json; print(json.load(open(".data/secrets.json"))["{}"])')"""
_SHELL: Final = "\n".join(
    (
        f"HOLDFAST={ADDRESS}",
        *(f"{name}={_FROM_FILE.format(name.lower())}" for name in ("ADMIN_TOKEN", "CRON_SECRET")),
    )
)


def page(document: Json, order: Sequence[str]) -> str:
    """The page for a document; `order` has the ids of its operations as they are to be read.

    It has `ADDRESS` where the service's own belongs.
    """
    title = f"{document['info']['title']} API"
    groups = _groups(document, order)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href=_ICON),
        element("link", rel="stylesheet", href=STYLE_SHEET),
    )
    content = element(
        "main",
        _start(document),
        access_table(groups),
        *(_group(tag, calls, document["components"]["schemas"]) for tag, calls in groups),
        _refusals(document["components"]["examples"]),
        _shapes(document),
        id="content",
        tabindex="-1",
    )
    skip = element("a", "Skip to the content", href="#content", class_="skip")
    return "<!doctype html>\n" + element(
        "html", head, element("body", skip, _contents(title, groups), content), lang="en"
    )


def _groups(document: Json, order: Sequence[str]) -> list[tuple[Json, list[Json]]]:
    """The calls of each tag. What is the same at several addresses is one call."""
    by_id = {
        operation["operationId"]: {**operation, "addresses": [(method, path)]}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    calls: list[Json] = []
    for operation_id in order:
        call = by_id[operation_id]
        if calls and _without_address(calls[-1]) == _without_address(call):
            calls[-1]["addresses"] += call["addresses"]
        else:
            calls.append(call)
    groups = [(tag, [call for call in calls if call["tags"] == [tag["name"]]]) for tag in document["tags"]]
    return [(tag, of_tag) for tag, of_tag in groups if of_tag]


def _without_address(call: Json) -> Json:
    return {key: value for key, value in call.items() if key not in ("operationId", "addresses")}


def _contents(title: str, groups: list[tuple[Json, list[Json]]]) -> Html:
    def item(href: str, text: str, *calls: Html) -> Html:
        return element("li", element("a", text, href=href), *([element("ul", *calls)] if calls else []))

    entries = [item("#content", "Start"), item("#access", "Who may call what")]
    for tag, calls in groups:
        links = [item(f"#{call['operationId']}", call["summary"]) for call in calls]
        entries.append(item(f"#tag-{tag['name']}", tag["name"].capitalize(), *links))
    entries += [item("#refusals", "Refusals"), item("#shapes", "Shapes")]
    return element("nav", element("p", title, class_="name"), element("ul", *entries), aria_label="Contents")


def _start(document: Json) -> Html:
    info = document["info"]
    return element(
        "section",
        element("h1", f"{info['title']} API ", element("small", info["version"])),
        prose(info["description"]),
        prose(_TRY),
        code_block(_SHELL),
        prose(_REPLACE),
        element("p", "For programs, the same is in ", element("a", "openapi.json", href="openapi.json"), "."),
    )


def _group(tag: Json, calls: list[Json], schemas: Json) -> Html:
    articles = [call_article(call, schemas) for call in calls]
    heading = element("h2", tag["name"].capitalize())
    return element("section", heading, prose(tag["description"]), *articles, id=f"tag-{tag['name']}")


def _refusals(examples: Json) -> Html:
    intro = prose(
        "What a code means and what to do about it. The text of a refusal is for people and may change; the code stays."
    )
    codes = [_refusal(code, example) for code, example in examples.items()]
    return element("section", element("h2", "Refusals"), intro, *codes, id="refusals")


def _refusal(code: str, example: Json) -> Html:
    status = element("span", str(example["value"]["status"]), class_="status refused")
    heading = element("h3", joined((status, element("code", code)), " "))
    return element(
        "section", heading, prose(example["description"]), folded_example(example["value"]), id=code, class_="refusal"
    )


def _shapes(document: Json) -> Html:
    """What answers are made of. A request's body is told where it is sent."""
    schemas = document["components"]["schemas"]
    bodies = {
        shape_of_body(operation, schemas)[0]
        for methods in document["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    }
    shapes = [
        _shape(name, schema)
        for name, schema in sorted(schemas.items())
        if name not in bodies and "properties" in schema
    ]
    return element("section", element("h2", "Shapes"), prose("What answers are made of."), *shapes, id="shapes")


def _shape(name: str, schema: Json) -> Html:
    return element(
        "section",
        element("h3", name),
        prose(schema["description"]),
        members(schema),
        id=f"shape-{name}",
        class_="shape",
    )
