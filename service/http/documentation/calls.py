"""One call on the docs page: what it takes, an example, its answers and its refusals."""

import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlencode

from service.http.documentation.markup import Html, element, inline, joined, prose
from service.http.documentation.wording import kind, sent

Json = dict[str, Any]

_PROBLEMS: Final = "application/problem+json"
# In the order in which they stand in a request.
_PLACES: Final = {"path": "In the path", "query": "In the query", "header": "As headers"}


def call_article(call: Json, schemas: Json) -> Html:
    """An operation of the document, with the `addresses` that it has: (method, path)."""
    return element(
        "article",
        element("h3", call["summary"]),
        *(_address(method, path) for method, path in call["addresses"]),
        prose(call["description"]),
        element(
            "div",
            element("div", *_takes(call, schemas), class_="takes"),
            element("div", *_examples(call), *_answers(call), class_="sample"),
            element("div", *_codes(call), class_="codes"),
            class_="parts",
        ),
        id=call["operationId"],
        class_="call",
    )


def members(schema: Json, *, of_request: bool = False) -> Html:
    """The members of an object, each with what it may be."""
    required = schema.get("required", ())
    return element(
        "ul",
        *(
            _member(
                name, sent(member) if of_request else member, member["description"], of_request and name in required
            )
            for name, member in schema["properties"].items()
        ),
        class_="members",
    )


def shape_of_body(call: Json, schemas: Json) -> tuple[str, bool]:
    """The name of what an operation takes in its body, and whether it takes a list of them."""
    name = _json(call["requestBody"])["schema"]["$ref"].rpartition("/")[2]
    if schemas[name]["type"] == "array":
        return schemas[name]["items"]["$ref"].rpartition("/")[2], True
    return name, False


def folded_example(value: Any) -> Html:
    """JSON that is there for those who open it."""
    return element("details", element("summary", "Example"), _example(value))


def code_block(text: str) -> Html:
    """Lines to copy."""
    return element("pre", element("code", text))


def _example(value: Any) -> Html:
    return code_block(_written(value))


def _address(method: str, path: str) -> Html:
    return element(
        "p", element("span", method.upper(), class_=f"method {method}"), " ", element("code", path), class_="address"
    )


def _takes(call: Json, schemas: Json) -> Iterator[Html]:
    yield element("h4", "Takes")
    if not (call["security"] or call["parameters"] or "requestBody" in call):
        yield element("p", "Nothing.")
    if call["security"]:
        tokens = joined((element("code", token) for token in _tokens(call)), " or ")
        unless = " A guest's own token in the request will do instead." if {} in call["security"] else ""
        yield element("p", "The header ", element("code", "Authorization: Bearer …"), " with ", tokens, ".", unless)
    for place, parameters in _by_place(call).items():
        if parameters:
            yield element("h5", _PLACES[place])
            yield element("ul", *map(_parameter, parameters), class_="members")
    if "requestBody" in call:
        shape, is_list = shape_of_body(call, schemas)
        yield element("h5", "In the body, a list of" if is_list else "In the body")
        yield members(schemas[shape], of_request=True)


def _parameter(parameter: Json) -> Html:
    return _member(parameter["name"], parameter["schema"], parameter["description"], parameter.get("required", False))


def _member(name: str, schema: Json, description: str, required: bool) -> Html:
    facts: list[str] = [kind(schema)]
    if required:
        facts.append(element("strong", "required"))
    elif schema.get("default") is not None:
        facts.append(joined(("default ", element("code", json.dumps(schema["default"])))))
    return element(
        "li",
        element("code", name, class_="member"),
        " ",
        element("span", joined(facts, " · "), class_="kind"),
        element("p", inline(description)),
    )


def _examples(call: Json) -> Iterator[Html]:
    """The first as it is, the others for those who open them."""
    yield element("h4", "Example")
    if "requestBody" not in call:
        yield code_block(_curl(call, None))
        return
    first, *others = _json(call["requestBody"])["examples"].values()
    yield element("p", first["summary"], class_="kind")
    yield code_block(_curl(call, first["value"]))
    for body in others:
        yield element("details", element("summary", body["summary"]), code_block(_curl(call, body["value"])))


def _curl(call: Json, body: Any) -> str:
    method, path = call["addresses"][0]
    examples = {
        place: {parameter["name"]: parameter["example"] for parameter in given if "example" in parameter}
        for place, given in _by_place(call).items()
    }
    for name, value in examples["path"].items():
        path = path.replace(f"{{{name}}}", value)
    if examples["query"]:
        path += "?" + urlencode(examples["query"], safe=":")
    verb = "" if method == "get" else f"-X {method.upper()} "
    lines = [f'curl -i {verb}"$HOLDFAST{path}"']
    # Whoever tries the service out has started it: so they have the administrator's token, which comes last. A
    # scheduler is better given its own secret, and so that comes after it.
    lines += [f'-H "Authorization: Bearer ${token}"' for token in _tokens(call)[-1:]]
    lines += ["-H " + shlex.quote(f"{name}: {value}") for name, value in examples["header"].items()]
    if body is not None:
        lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(_written(body))}"]
    return " \\\n  ".join(lines)


def _answers(call: Json) -> Iterator[Html]:
    """The first with its example, the others for those who open theirs."""
    yield element("h4", "Answers")
    example_of = _example
    for status, answer in call["responses"].items():
        content = {name: media for name, media in answer.get("content", {}).items() if name != _PROBLEMS}
        if not content and _PROBLEMS in answer.get("content", {}):
            continue
        yield element("p", _status(status), " ", inline(answer["description"]), class_="answer")
        yield element("p", joined(_facts(content, answer["headers"]), " · "), class_="kind")
        for media in content.values():
            if "example" in media:
                yield example_of(media["example"])
                example_of = folded_example
            for refusal in media.get("examples", {}).values():
                yield folded_example(refusal["value"])


def _facts(content: Json, headers: Iterable[str]) -> Iterator[Html]:
    """The shape of an answer, or its media type if it has none, and its headers besides the usual one."""
    for media_type, media in content.items():
        yield kind(media["schema"]) if media["schema"] else element("code", media_type)
    for header in headers:
        if header != "X-Request-Id":
            yield joined(("header ", element("code", header)))


def _codes(call: Json) -> Iterator[Html]:
    codes = [
        element("li", _status(status), " ", element("a", code, href=f"#{code}"))
        for status, answer in call["responses"].items()
        for code in answer.get("content", {}).get(_PROBLEMS, {}).get("examples", {})
    ]
    if codes:
        yield element("h4", "Refusals")
        yield element("ul", *codes)


def _by_place(call: Json) -> dict[str, list[Json]]:
    return {place: [given for given in call["parameters"] if given["in"] == place] for place in _PLACES}


def _status(status: str) -> Html:
    return element("span", status, class_="status refused" if status >= "400" else "status")


def _tokens(call: Json) -> list[str]:
    """What the tokens are called of which one is needed."""
    return [name for needed in call["security"] for name in needed]


def _json(body: Json) -> Json:
    content: Json = body["content"]["application/json"]
    return content


def _written(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
