"""From a YAML file and the environment to a Config, or to all complaints at once: where, what is wrong, what to write.

    bridge.yaml:12: routes[0].source.queu: unknown key; did you mean "queue"?
    BRIDGE_HTTP__PORT: http.port: not a whole number ('many')

May not: show the value of a secret, or stop at the first mistake.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from bridge.config.grammar import masked
from bridge.config.models import Config
from bridge.config.rules import Complaint, Place, complaints, external_ids, unreadable
from bridge.core.errors import ConfigError

DEFAULT = Path("bridge.yaml")
PREFIX = "BRIDGE_"
SECRETS = frozenset({"password", "token"})
# Kubernetes sets such variables in every pod for each service; one called bridge must not prevent our start.
SERVICE_LINK = re.compile(
    r"BRIDGE_(?:[A-Z0-9]+_)*(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)


@dataclass(slots=True)
class _Layers:
    """Raw values, and where each came from: a line of the file or a variable."""

    file: str
    raw: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    variables: dict[Place, str] = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)

    def where(self, place: Place) -> str:
        """The nearest thing an operator can open."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.variables:
                return self.variables[place[:end]]
            if place[:end] in self.lines:
                return f"{self.file}:{self.lines[place[:end]]}"
        return self.file


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration in `path` (default bridge.yaml) under the BRIDGE_ variables of `environ`.

    Raises ConfigError whose message has every complaint, one per line, in the order of the file.
    """
    file = path or DEFAULT
    layers = _Layers(str(file))
    _read(file, layers)
    _overlay(environ, layers)
    _read_secrets(layers)
    found = [*layers.complaints, *complaints(layers.raw), *external_ids(layers.raw)]
    config = None
    try:
        config = Config(**layers.raw)
    except ValidationError as error:
        found += _translated(error, layers.raw)
    if found or config is None:
        raise ConfigError("\n".join(_sentences(found, layers)))
    return config


def _sentences(found: list[Complaint], layers: _Layers) -> list[str]:
    def order(complaint: Complaint) -> tuple[int, str]:
        place = complaint[0]
        if not layers.where(place).startswith(layers.file):
            return 0, str(place)  # the environment first: it wins
        nearest = next((layers.lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in layers.lines), 0)
        return nearest, str(place)

    sentences = [
        ": ".join(dict.fromkeys(part for part in (layers.where(place), named(place), text) if part))
        for place, text in sorted(found, key=order)
    ]
    return list(dict.fromkeys(sentences))


def named(place: Place) -> str:
    """`("routes", 0, "name")` as an operator writes it: routes[0].name."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


# -- the file


def _read(file: Path, layers: _Layers) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {file}",
            hint="write one (deploy/bridge.example.yaml shows every key), or name it with --config or BRIDGE_CONFIG",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {unreadable(error)}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = _plain(node, (), layers) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{file}{at}: not valid YAML: {error.problem}", hint=_yaml_hint(error, text)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file}:1: the file must hold keys and values", hint="see deploy/bridge.example.yaml")
    layers.raw = document


def _yaml_hint(error: yaml.MarkedYAMLError, text: str) -> str:
    """The most common cause of this error of the parser."""
    mark, began = error.problem_mark, error.context_mark
    line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
    if line.count("{") > 1:
        return 'a template needs quotes: subject: "orders.{attributes.NAME}"'
    if "'\\t'" in str(error.problem):
        return "YAML is indented with spaces, not tabs"
    if mark and began and began.line < mark.line and "flow" in str(error.context):
        return f"a bracket or brace opened in line {began.line + 1} is not closed"
    return ""


def _plain(node: yaml.Node, place: Place, layers: _Layers) -> Any:
    layers.lines.setdefault(place, node.start_mark.line + 1)
    match node:
        case yaml.MappingNode():
            document: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                inner = (*place, key)
                if key in document:
                    layers.complaints.append((inner, f"written twice, in line {layers.lines[inner]} too; keep one"))
                layers.lines[inner] = key_node.start_mark.line + 1
                document[key] = _plain(value_node, inner, layers)
            return document
        case yaml.SequenceNode():
            return [_plain(child, (*place, at), layers) for at, child in enumerate(node.value)]
        case yaml.ScalarNode(style=None) if place[:1] == ("routes",) and "filter" in place[2:3] and len(place) > 3:
            return _as_json(node, place, layers)
        case _:
            constructor = yaml.constructor.SafeConstructor()
            return constructor.construct_object(node)


def _as_json(node: yaml.ScalarNode, place: Place, layers: _Layers) -> Any:
    """A scalar of a filter without quotes: a policy is JSON, and what YAML 1.1 reads in its own way would silently
    match nothing."""
    text = str(node.value)
    try:
        return json.loads(text)
    except ValueError:
        value = yaml.constructor.SafeConstructor().construct_object(node)
        if isinstance(value, bool | int | float) or value is None:
            read = json.dumps(value)
            layers.complaints.append((place, f'YAML reads {text or "nothing"} as {read}; write "{text}" or {read}'))
        return value


# -- the environment


def _overlay(environ: Mapping[str, str], layers: _Layers) -> None:
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == "BRIDGE_CONFIG" or SERVICE_LINK.fullmatch(variable):
            continue
        segments = variable.removeprefix(PREFIX).split("__")
        place, complaint = _placed(segments, layers.raw)
        if complaint:
            layers.variables[(variable,)] = variable
            layers.complaints.append(((variable,), complaint))
            continue
        layers.variables[place] = variable
        _put(layers.raw, place, environ[variable])


def _placed(segments: list[str], raw: Any) -> tuple[Place, str]:
    """The place a variable names, or a complaint."""
    place: list[str | int] = []
    shape: Any = Config
    for segment in segments:
        known: dict[str, str | int]
        if isinstance(raw, list) or _is_list(shape):
            items = raw if isinstance(raw, list) else []
            known = {str(at): at for at in range(len(items))}
            known |= {_spelled(str(item.get("name"))): at for at, item in enumerate(items) if isinstance(item, dict)}
        elif _is_dict(shape):
            known = {_spelled(str(name)): str(name) for name in (raw if isinstance(raw, dict) else {})}
            known.setdefault(segment.upper(), segment.lower())
        else:
            known = {name.upper(): name for name in _fields(shape, raw)}
        if segment.upper() not in known:
            near = get_close_matches(segment.upper(), known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known) or 'nothing'}"
            return (), f"nothing in the configuration is called {segment}{hint}"
        key = known[segment.upper()]
        place.append(key)
        raw = _inside(raw, key)
        shape = _shape(shape, key, raw)
    return tuple(place), ""


def _spelled(name: str) -> str:
    return name.upper().replace("-", "_")


def _inside(raw: Any, key: str | int) -> Any:
    if isinstance(key, int):
        return raw[key] if isinstance(raw, list) and key < len(raw) else None
    return raw.get(key) if isinstance(raw, dict) else None


def _put(raw: Any, place: Place, value: str) -> None:
    for key in place[:-1]:
        if isinstance(key, str) and not isinstance(raw.get(key), dict | list):
            raw[key] = {}
        raw = raw[key]
    raw[place[-1]] = value


def _read_secrets(layers: _Layers) -> None:
    """password_file and token_file become password and token; the complaint names the field, never the content."""
    connections = layers.raw.get("connections")
    sections: list[tuple[Place, Any]] = [(("nats",), layers.raw.get("nats"))]
    if isinstance(connections, dict):
        sections += [(("connections", str(name)), each) for name, each in connections.items()]
    for place, section in sections:
        if not isinstance(section, dict):
            continue
        for secret in SECRETS:
            source = section.get(f"{secret}_file")
            if not isinstance(source, str) or section.get(secret):
                continue
            try:
                text = Path(source).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                layers.complaints.append(((*place, f"{secret}_file"), f"cannot read {source}: {unreadable(error)}"))
                continue
            if text:
                section[secret] = text
                section.pop(f"{secret}_file")
            else:
                layers.complaints.append(((*place, f"{secret}_file"), f"{source} is empty"))


# -- pydantic's errors in an operator's words


def _translated(error: ValidationError, raw: dict[str, Any]) -> Iterator[Complaint]:
    for each in error.errors(include_url=False):
        place, shape = _resolved(each["loc"], raw)
        yield place, _sentence(each["type"], each.get("ctx", {}), each.get("input"), place, shape, str(each["msg"]))


def _resolved(loc: tuple[int | str, ...], raw: Any) -> tuple[Place, Any]:
    """The place in the file and the model around it. pydantic puts the kind of a union into its locations."""
    place: list[str | int] = []
    shape: Any = Config
    around: Any = Config
    for at, part in enumerate(loc):
        last = at == len(loc) - 1
        if isinstance(part, str) and isinstance(raw, dict) and part not in raw and raw.get("kind") == part and not last:
            continue
        place.append(part)
        around, shape = (_chosen(shape, raw), _shape(shape, part, _inside(raw, part)))
        raw = _inside(raw, part)
    return tuple(place), around


def _sentence(kind: str, context: Mapping[str, Any], given: Any, place: Place, around: Any, message: str) -> str:
    key = str(place[-1]) if place else ""
    shown = (
        ""
        if key in SECRETS
        else f" ({masked(repr(given))[:60]})"
        if isinstance(given, str | int | float | bool)
        else ""
    )
    match kind:
        case "extra_forbidden":
            near = get_close_matches(key, _fields(around, None), 1)
            known = ", ".join(_fields(around, None))
            return f'unknown key; did you mean "{near[0]}"?' if near else f"unknown key; known here: {known}"
        case "missing":
            return f"it is missing; add {key}: {_meaning(around, key)}"
        case "string_type" if isinstance(given, dict):
            return "YAML reads {…} as a mapping; put quotes around it"
        case "string_type" if isinstance(given, bool | int | float):
            return f"it must be text{shown}; put quotes around it"
        case "string_type":
            return "it must be text"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"not a whole number{shown}"
        case "float_parsing" | "float_type":
            return f"not a number{shown}"
        case "bool_parsing" | "bool_type":
            return f"it is neither true nor false{shown}"
        case "list_type" | "model_type" | "model_attributes_type" | "dict_type" if given is None:
            return "there is nothing below it; add something, indented, or remove it"
        case "list_type":
            return "it must be a list; write - before each item, or [a, b]"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "it must hold keys and values, indented below it"
        case "literal_error":
            return f"it must be {context['expected'].replace(chr(39), '')}{shown}"
        case "union_tag_invalid":
            return f"kind must be {context['expected_tags'].replace(chr(39), '')} ({context['tag']!r})"
        case "union_tag_not_found":
            return "its kind is missing; add kind"
        case "greater_than_equal":
            return f"it must be at least {context['ge']:.12g}{shown}"
        case "less_than_equal":
            return f"it must be at most {context['le']:.12g}{shown}"
        case "too_short" | "string_too_short":
            return "it must not be empty"
        case "value_error":
            said = str(context["error"])
            return said if repr(given) in said else f"{said}{shown}"
        case _:
            return f"{message[:1].lower()}{message[1:]}{shown}"


def _meaning(around: Any, key: str) -> str:
    models = _models(around)
    found = next((model.model_fields[key].description for model in models if key in model.model_fields), None)
    return (found or "").rstrip(".") or "…"


# -- the shape of the configuration, from its annotations


def _models(shape: Any) -> list[type[BaseModel]]:
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return [shape]
    if get_origin(shape) in (Annotated, Union, UnionType):
        return [model for part in get_args(shape) for model in _models(part)]
    return []


def _chosen(shape: Any, raw: Any) -> Any:
    """The one model of a union that `kind` names; the union itself when it names none."""
    models = _models(shape)
    kind = raw.get("kind") if isinstance(raw, dict) else None
    fitting = [m for m in models if "kind" in m.model_fields and kind in get_args(m.model_fields["kind"].annotation)]
    return fitting[0] if fitting else shape


def _fields(shape: Any, raw: Any) -> list[str]:
    return list(dict.fromkeys(name for model in _models(_chosen(shape, raw)) for name in model.model_fields))


def _shape(shape: Any, key: str | int, inside: Any) -> Any:
    """The annotation of what is under `key`."""
    for part in _unwrapped(shape):
        if get_origin(part) is list:
            return _chosen(get_args(part)[0], inside)
        if get_origin(part) is dict:
            return _chosen(get_args(part)[1], inside)
        if isinstance(part, type) and issubclass(part, BaseModel) and key in part.model_fields:
            return _chosen(part.model_fields[str(key)].annotation, inside)
    return None


def _unwrapped(shape: Any) -> list[Any]:
    if get_origin(shape) in (Annotated, Union, UnionType):
        return [each for part in get_args(shape) for each in _unwrapped(part)]
    return [shape]


def _is_list(shape: Any) -> bool:
    return any(get_origin(part) is list and _models(get_args(part)[0]) for part in _unwrapped(shape))


def _is_dict(shape: Any) -> bool:
    return any(get_origin(part) is dict for part in _unwrapped(shape))
