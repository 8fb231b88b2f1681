"""Says what is wrong with a file in its writer's words: the key as it was written, what was found, and what would be right."""

from __future__ import annotations

import difflib
import re
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError

from ratchet.errors import Problem, SpecInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_EXPECTED = {  # by the beginning of pydantic's word for the error; the first that fits
    "string_pattern": "lower-case letters, digits and _, at most 63 of them, a letter first",
    "tuple": "a list, such as [a, b]",
    "list": "a list, such as [a, b]",
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "date": "a date, such as 2024-01-31",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_LENGTHS = {"string_too_short": ("min_length", "at least"), "string_too_long": ("max_length", "at most")}


def problems(root: type[BaseModel], file: str, error: ValidationError) -> list[Problem]:
    """Turn pydantic's errors about ``root`` into problems of ``file``."""
    found = [dict(e) for e in error.errors()]
    return [_problem(root, file, e) for e in found if not _follows(e, found)]


def _follows(error: dict[str, Any], errors: Sequence[dict[str, Any]]) -> bool:
    """Say whether an error only comes of others: a list is short of what was wrong in it, keys and values are no word."""
    loc, found = error["loc"], error.get("input")
    if error["type"] == "too_short":
        return bool(len(found or ()) >= error["ctx"]["min_length"])
    others = [e for e in errors if e["loc"][: len(loc) - 1] == loc[:-1] and e is not error]
    return error["type"] == "literal_error" and _of_union(loc[-1]) and isinstance(found, dict) and bool(others)


def _of_union(part: str | int) -> bool:
    """Say whether a part of pydantic's path names one of the types that a value may have; it is not in the file."""
    return isinstance(part, str) and re.fullmatch(r"(literal|dict)\[.*\]", part) is not None


def read_yaml(text: str, file: str, such_as: str = "name: demo") -> dict[str, Any]:
    """Read a mapping from YAML; a key that stands twice is an error, not an override. ``such_as`` is for messages.

    Raises:
        SpecInvalid: with the line.
    """
    try:
        data = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecInvalid([Problem(file, where, f"not YAML: {getattr(exc, 'problem', None) or exc}")]) from exc
    if data is None:
        raise SpecInvalid([Problem(file, "", "the file is empty")])
    if not isinstance(data, dict):
        raise SpecInvalid([Problem(file, "", f"expected keys and values, such as `{such_as}`, found {_shown(data)}")])
    return data


def read_value(text: str) -> Any:
    """Read a single value as a file would have it."""
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once, and `off`, `on`, `yes` and `no` are words: an action or a column may be called so."""

    yaml_implicit_resolvers = {
        first: [(tag, fits) for tag, fits in found if tag != "tag:yaml.org,2002:bool"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002  the parent's signature
        seen: list[Any] = []
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.append(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _problem(root: type[BaseModel], file: str, error: dict[str, Any]) -> Problem:
    key, place, description = _walk(root, error["loc"])
    kind, found = str(error["type"]), error.get("input")
    about = f": {description}" if description else ""
    if kind == "missing":
        message = f"is missing{about}"
    elif kind == "extra_forbidden":
        message = _unknown(str(error["loc"][-1]), found, _fields(place))
    elif kind.startswith("union_tag"):
        tag = error["ctx"]["discriminator"].strip("'")
        key, choices = f"{key}.{tag}", _tags(place, tag)
        message = _choose(error["ctx"]["tag"], choices) if "tag" in error["ctx"] else _missing(found, choices)
    elif kind == "literal_error":
        message = _choose(found, _choices(place))
    elif kind == "too_short":
        message = f"the list needs at least {error['ctx']['min_length']}, found {_shown(found)}{about}"
    else:
        message = _value(kind, found, error.get("ctx", {}), _fields(place), str(error["msg"]))
    return Problem(file, key, message)


def _unknown(name: str, found: Any, allowed: Sequence[str]) -> str:
    """Say that there is no such field."""
    shown = "Allowed" if isinstance(found, dict | list) else f"Found {found!r}; allowed"
    return f"is not a field{_close(name, allowed) or '.'} {shown}: {', '.join(allowed)}"


def _choose(found: Any, choices: Sequence[str]) -> str:
    return f"found {found!r}{_close(str(found), choices) or ';'} choices: {', '.join(choices)}"


def _missing(found: Any, choices: Sequence[str]) -> str:
    written = f"; there are: {', '.join(map(str, found))}" if isinstance(found, dict) and found else ""
    return f"is missing{written}; choices: {', '.join(choices)}"


def _close(found: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(found, choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _value(kind: str, found: Any, facts: dict[str, Any], fields: Sequence[str], message: str) -> str:
    """Say what is wrong with one value."""
    shown = f", found {_shown(found)}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {facts[name]:g}{shown}"
    if kind in _LENGTHS:
        name, words = _LENGTHS[kind]
        return f"must have {words} {facts[name]} character{'' if facts[name] == 1 else 's'}{shown}"
    if kind == "value_error":
        return message.removeprefix("Value error, ") + ("" if isinstance(found, dict | list) else shown)
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return f"expected keys and values{' of ' + ', '.join(fields) if fields else ''}{shown}"
    expected = next((words for start, words in _EXPECTED.items() if kind.startswith(start)), None)
    quotes = "; put it in quotes" if kind == "string_type" and not isinstance(found, dict | list | None) else ""
    return f"expected {expected}{shown}{quotes}" if expected else f"{message[0].lower()}{message[1:]}{shown}"


def _shown(found: Any) -> str:
    if found is None:
        return "nothing"
    if isinstance(found, dict):
        return f"keys and values ({', '.join(map(str, list(found)[:5]))})" if found else "nothing"
    if isinstance(found, list):
        return f"a list of {len(found)}" if found else "none"
    return repr(found)[:200]


def _walk(root: type[BaseModel], loc: Sequence[str | int]) -> tuple[str, Any, str]:
    """Follow pydantic's path, and return the key as it was written, the type expected there, and its description.

    Of an unknown field, the type is that of its surroundings, because what is allowed there matters.
    """
    key, current, description = "", root, ""
    for part in loc:
        found = list(_alternatives(current))
        models = [m for m in found if _is_model(m)]
        if len(models) > 1 and (
            tagged := [m for m in models if any(part in get_args(f.annotation) for f in m.model_fields.values())]
        ):
            current = tagged[0]  # the tag of a union is in the path, but not in the file
        elif models and part in models[0].model_fields:
            field = models[0].model_fields[part]
            key, current, description = f"{key}.{part}", field.annotation, field.description or ""
        elif part != "[key]" and part not in _tagged(current) and not (len(found) > 1 and _of_union(part)):
            key = f"{key}[{part}]" if isinstance(part, int) else f"{key}.{part}"
            inner = next((get_args(a) for a in found if get_origin(a) in {tuple, dict}), None)
            if inner:
                current = inner[0] if isinstance(part, int) else inner[1]
    return key.lstrip("."), current, description


def _tagged(annotation: Any) -> set[str]:
    """Return the tags of a union of values: they are in the path, but not in the file."""
    own = {mark.tag for mark in get_args(annotation)[1:] if isinstance(mark, Tag)}
    return own.union(*(_tagged(arg) for arg in get_args(annotation) if get_args(arg)))


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the types that a value may have."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, types.UnionType}:
        for arg in get_args(annotation):
            yield from _alternatives(arg)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel)


def _fields(place: Any) -> list[str]:
    """Return the fields of a place; of one that has a choice of models, those that each of them has, or where there are none, any."""
    models = [set(m.model_fields) for m in _alternatives(place) if _is_model(m)]
    return sorted(set.intersection(*models) or set.union(*models)) if models else []


def _choices(place: Any) -> list[str]:
    return [str(choice) for a in _alternatives(place) if get_origin(a) is Literal for choice in get_args(a)]


def _tags(place: Any, discriminator: str) -> list[str]:
    return [
        tag for m in _alternatives(place) if _is_model(m) for tag in _choices(m.model_fields[discriminator].annotation)
    ]
