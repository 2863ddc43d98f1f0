"""From layers of plain values to a method's frozen `Config`, each value checked against the field's type."""

import ast
import inspect
import io
import json
import math
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from robust_cluster.errors import ConfigError, UnknownNameError

T = TypeVar("T")
GROUP = "group"  # of settings, among those that `described` names
type_hints: Callable[[type], dict[str, Any]] = cache(get_type_hints)  # a table asks often for few classes


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """{"model.cluster.epochs": 3} as {"model": {"cluster": {"epochs": 3}}}. Raises: ConfigError for a clash."""
    tree: dict[str, Any] = {}
    for path, value in dotted.items():
        *groups, last = path.split(".")
        level = tree
        for group in groups:
            level = level.setdefault(group, {})
            if not isinstance(level, dict):
                raise ConfigError(f"{path!r} is set both as a value and as a group")
        level[last] = value
    return tree


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted path: {"model.cluster.epochs": 3} of {"model": {"cluster": {"epochs": 3}}}.

    Raises: ConfigError for a path that is there twice, as "model.lr" and as lr of "model".
    """
    found: dict[str, Any] = {}
    for key, value in content.items():
        path = f"{prefix}{key}"
        inner = flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
        if twice := found.keys() & inner.keys():
            raise ConfigError(f"{min(twice)} is set twice", hint="leave one of them out")
        found |= inner
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` put in, group by group."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        merged[name] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def resolve(method: Any, profile: str, overrides: Mapping[str, Any], path: str) -> Any:
    """A method's `Config`: its defaults, then its MODES entry, its PROFILES entry, then the user's values.

    `method`: its module, or whatever has a `Config`, and `MODES` and `PROFILES` where there are any.
    Raises: UnknownNameError for a field that does not exist, ConfigError for a value that is not allowed.
    """
    modes: Mapping[str, Any] = getattr(method, "MODES", {})
    profiles: Mapping[str, Any] = getattr(method, "PROFILES", {})
    values = merge(modes.get(str(overrides.get("mode")), {}), profiles.get(profile, {}))
    return build(method.Config, merge(values, overrides), path)


def plain(config: Any) -> dict[str, Any]:
    """The fields of a config as JSON has them: tuples as lists, groups as objects."""

    def as_json(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: as_json(item) for name, item in value.items()}
        return [as_json(item) for item in value] if isinstance(value, list | tuple) else value

    content: dict[str, Any] = as_json(asdict(config))
    return content


def build(config: type[T], values: Mapping[str, Any], path: str) -> T:
    """An instance of the dataclass `config`: its defaults with `values` put in. `path` names it in messages.

    Raises: UnknownNameError for a field that does not exist, ConfigError for a value of another type.
    """
    return replace(config(), values, path)


def replace(instance: T, values: Mapping[str, Any], path: str) -> T:
    """A copy of a config with `values` put in, group by group."""
    hints = type_hints(type(instance))
    current = {f.name: getattr(instance, f.name) for f in fields(instance)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in current:
            raise UnknownNameError("setting", name, current, group=f"{path}.")
        current[name] = checked(value, hints[name], current[name], f"{path}.{name}")
    return type(instance)(**current)


def checked(value: Any, hint: Any, old: Any, path: str) -> Any:
    """`value` as the type `hint` wants it: whole numbers pass as floats, lists as tuples."""
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            names = ", ".join(f.name for f in fields(hint))
            raise ConfigError(f"{path} is a group of settings ({names}), got {value!r}")
        return replace(old, value, path)
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{path} must be one of {', '.join(map(repr, get_args(hint)))}, got {value!r}")
        return value
    if origin in (Union, types.UnionType):
        return None if value in (None, "none", "None") else checked(value, get_args(hint)[0], old, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path} must be a list such as [256, 128], got {value!r}")
        return tuple(checked(item, get_args(hint)[0], None, path) for item in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{path} must be a finite number, got {value}")
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path} must be {hint.__name__}, got {value!r}")
    return value


def described(config: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Path, allowed values and comment of every setting: ("model.lr", "number", "step size") for `lr` in path "model".

    A group of settings with a comment in the source comes before them, and may be "group".
    """
    hints, comments = type_hints(type(config)), field_comments(type(config))
    for known in fields(config):
        value, name = getattr(config, known.name), f"{path}.{known.name}"
        if is_dataclass(value):
            if comments[known.name]:
                yield name, GROUP, comments[known.name]
            yield from described(value, name)
        else:
            yield name, allowed(hints[known.name]), comments[known.name]


def allowed(hint: Any) -> str:
    """What a field of a type may be, in the words of `--set`: "plain|star", "number|none", "[integer, ...]"."""
    origin = get_origin(hint)
    if origin is Literal:
        return "|".join(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        return f"{allowed(get_args(hint)[0])}|none"
    if origin is tuple:
        return f"[{allowed(get_args(hint)[0])}, ...]"
    return {bool: "true|false", int: "integer", float: "number", str: "text"}[hint]


def in_words(values: Mapping[str, Any], prefix: str = "") -> str:
    """Nested values as they would be set: "optimizer=sgd, cluster.epochs=50"."""
    return ", ".join(
        in_words(value, f"{prefix}{name}.") if isinstance(value, Mapping) else f"{prefix}{name}={typed(value)}"
        for name, value in values.items()
    )


def typed(value: Any) -> str:
    """A value as `--set` takes it."""
    if value is None:
        return "none"
    return value if isinstance(value, str) and value else json.dumps(value, separators=(",", ":"))


def field_comments(config: type) -> dict[str, str]:
    """Field -> the comments above and beside it in the source of a config, or of the nearest base with some."""
    found: dict[str, str] = {}
    for owner in filter(is_dataclass, reversed(config.__mro__)):
        source = textwrap.dedent(inspect.getsource(owner))
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
        (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
        for node in body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                first = node.lineno
                while first - 1 in comments and comments[first - 1].line.lstrip().startswith("#"):
                    first -= 1
                lines = range(first, (node.end_lineno or node.lineno) + 1)
                text = "; ".join(comments[line].string.lstrip("# ") for line in lines if line in comments)
                found[node.target.id] = text or found.get(node.target.id, "")
    return found
