"""Errors, and the few functions that turn plain mappings into checked, frozen dataclasses and back.

Standard library only: planning, status and tables import this without starting JAX.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import functools
import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

SUCCESS, FAILED, WRONG_REQUEST, INCOMPLETE = 0, 1, 2, 3


class FedsimError(Exception):
    """What went wrong, in one sentence for the person who asked; `exit_code` goes to the shell."""

    exit_code = FAILED


class RequestError(FedsimError):
    """A wrong option, value or input file: nothing was run."""

    exit_code = WRONG_REQUEST


class Interrupted(FedsimError):
    """Asked to stop, with what was reached saved: the same command goes on from there."""

    exit_code = INCOMPLETE


class Refusal(RequestError):
    """What would not be sound. reason: why; advice: the nearest request that is."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason, self.advice = reason, advice


def require(condition: object, message: str) -> None:
    """Raise `RequestError(message)` unless `condition` holds."""
    if not condition:
        raise RequestError(message)


def nearest(name: str, allowed: Collection[str]) -> str:
    """The allowed names, and the closest one to `name` where there is one: the tail of an error. Nothing for
    an allowed name, as most are: messages are made before `require` looks whether they are needed."""
    if name in allowed:
        return ""
    allowed = sorted(str(a) for a in allowed)
    close = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"choose one of {', '.join(allowed) or 'nothing'}{hint}"


def not_written(place: str | os.PathLike[str], error: OSError, elsewhere: str) -> str:
    """What could not be written, why in the system's words, and what to do: the head of an error.

    elsewhere: what helps where it is not for want of space, as in "set results=... to another folder".
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = str(error.strerror or error)
    if error.filename and Path(str(error.filename)) in Path(place).parents:  # on the way there
        no_folder = error.errno in (errno.EEXIST, errno.ENOTDIR)
        reason = f"{error.filename} is no folder" if no_folder else f"{error.filename}: {reason}"
    return f"{os.fspath(place)} cannot be written ({reason}); {'free space there' if full else elsewhere}"


# --- dataclasses -----------------------------------------------------------------------------


def number(default: Any = dataclasses.MISSING) -> Any:
    """A float, or None, that enters the compiled program as an input: changing it never recompiles."""
    return dataclasses.field(default=default, metadata={"traced": True})


def choice(group: str, default: Any = dataclasses.MISSING) -> Any:
    """A field filled by one of the dataclasses registered under `group`, picked by its `name`."""
    return dataclasses.field(default=default, metadata={"group": group})


class Choice:
    """Base of what a config group offers. name: what it is registered as."""

    name: ClassVar[str] = ""


# group -> name -> dataclass; filled by `fedsim.config` and by users' own modules.
GROUPS: dict[str, dict[str, type]] = {}


def register(group: str, name: str, cls: type) -> None:
    """Make `group=name` build `cls`. Raises RequestError if the name is taken by another class."""
    known = GROUPS.setdefault(group, {})
    taken = known.get(name)
    # A module loaded twice (by path, and again in an actor) defines the same class twice.
    require(
        taken is None or taken.__qualname__ == cls.__qualname__,
        f"{group}={name} is already registered as {taken and taken.__qualname__}; choose another name",
    )
    known[name] = cls
    cls.name = name  # type: ignore[attr-defined]


def build(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Make `cls` from plain data, converting and checking every value.

    Raises:
      RequestError: an unknown key, a missing key, a value of the wrong type or out of range; the
        message names the config path and what is allowed.
    """
    require(isinstance(values, Mapping), f"{path or 'config'} must be a mapping, got {values!r}")
    fields = _fields(typing.cast(type, cls))
    for key in values:
        if key not in fields and key != "name":
            raise unknown_option(cls, key, path)
    made: dict[str, Any] = {}
    for name, (field, _) in fields.items():
        if name in values:
            made[name] = build_field(cls, name, values[name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            where = _join(path, name)
            raise RequestError(f"{where} is required and has no default; set {where}=...")
    return cls(**made)


def build_field(cls: type, name: str, value: Any, path: str = "") -> Any:
    """What `build` makes of one value. Raises RequestError as it does."""
    field, hint = _fields(cls)[name]
    group = field.metadata.get("group")
    where = _join(path, name)
    return build_choice(group, value, where) if group else _convert(value, hint, where)


def unknown_option(cls: type, key: str, path: str = "") -> RequestError:
    return RequestError(f"unknown option {_join(path, key)}; {nearest(key, _fields(cls))}")


@functools.cache
def _fields(cls: type) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Field and type of whatever `build` may set; to resolve the types takes longer than all the rest."""
    hints = typing.get_type_hints(cls)
    return {f.name: (f, hints[f.name]) for f in dataclasses.fields(cls) if f.init}


def build_choice(group: str, values: Any, path: str) -> Any:
    """Make the member of `group` that `values["name"]` picks."""
    if isinstance(values, str):
        values = {"name": values}
    require(isinstance(values, Mapping) and "name" in values, f"{path}.name is required, got {values!r}")
    known = GROUPS[group]
    name = values["name"]
    require(name in known, f"unknown {group} {name!r}; {nearest(name, known)}")
    return build(known[name], values, path)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _convert(value: Any, hint: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        options = [a for a in args if a is not type(None)]
        for option in options[:-1]:
            try:
                return _convert(value, option, path)
            except RequestError:
                continue
        return _convert(value, options[-1], path)
    if hint is Any:
        return value
    if origin is typing.Literal:
        require(value in args, f"{path} must be one of {', '.join(map(str, args))}; got {value!r}")
        return value
    if origin is tuple:
        require(
            isinstance(value, list | tuple),
            f"{path} must be a list, got {value!r}; write {path}=[...]",
        )
        return tuple(_convert(v, args[0], f"{path}[{i}]") for i, v in enumerate(value))
    if origin is dict or hint is dict:
        require(isinstance(value, Mapping), f"{path} must be a mapping, got {value!r}")
        return {str(k): v for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, path)
    if hint is bool:
        require(isinstance(value, bool), f"{path} must be true or false, got {value!r}")
        return value
    if hint is int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        require(
            isinstance(value, int) and not isinstance(value, bool),
            f"{path} must be a whole number, got {value!r}",
        )
        return value
    if hint is float:
        if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
            try:
                value = float(value)
            except ValueError:
                raise RequestError(f"{path} must be a number, got {value!r}") from None
        require(
            isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value),
            f"{path} must be a number, got {value!r}",
        )
        return float(value)
    if hint is str:
        require(isinstance(value, str | int | float), f"{path} must be text, got {value!r}")
        return str(value)
    raise TypeError(f"{path}: fedsim has no conversion to {hint!r}")


def to_dict(cfg: Any) -> Any:
    """Plain data from which `build` makes an equal dataclass."""
    if cfg is None or isinstance(cfg, str | int | float):  # most of what there is
        return cfg
    kind: Any = type(cfg)
    if (fields := _traced(kind)) is not None:
        plain = {name: to_dict(getattr(cfg, name)) for name, _ in fields}
        chosen = getattr(cfg, "name", None)
        return {"name": chosen, **plain} if chosen and "name" not in plain else plain
    if isinstance(cfg, tuple | list):
        return [to_dict(v) for v in cfg]
    if isinstance(cfg, Mapping):
        return {k: to_dict(v) for k, v in cfg.items()}
    return cfg


@functools.cache
def _traced(kind: type) -> tuple[tuple[str, bool], ...] | None:
    """(name, whether it is traced) of a dataclass's fields; None for other classes."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple((f.name, bool(f.metadata.get("traced"))) for f in dataclasses.fields(kind))


def numbers(cfg: Any, path: str = "") -> dict[str, float]:
    """Path -> value of every traced number in a config tree, in field order.

    Floats inside a list of Optax transforms (plain mappings) are traced too.
    """
    found: dict[str, float] = {}
    kind: Any = type(cfg)
    if (fields := _traced(kind)) is not None:
        for name, traced in fields:
            value, where = getattr(cfg, name), _join(path, name)
            if traced:
                if value is not None:
                    found[where] = value
            else:
                found |= numbers(value, where)
    elif isinstance(cfg, tuple):
        for i, value in enumerate(cfg):
            if isinstance(value, Mapping):
                found |= {f"{path}[{i}].{k}": v for k, v in value.items() if isinstance(v, float)}
            else:
                found |= numbers(value, f"{path}[{i}]")
    return found


def with_numbers(cfg: T, values: Mapping[str, Any], path: str = "") -> T:
    """A copy of `cfg` with traced numbers replaced, possibly by tracers: ranges are not checked again.

    Parts in which nothing is replaced are not copied."""
    if path and not any(key.startswith(path) for key in values):
        return cfg
    kind: Any = type(cfg)
    if (fields := _traced(kind)) is not None:
        copy: T = object.__new__(kind)
        for name, traced in fields:
            value, where = getattr(cfg, name), _join(path, name)
            new = values.get(where, value) if traced else with_numbers(value, values, where)
            object.__setattr__(copy, name, new)
        return copy
    if isinstance(cfg, tuple):
        items = []
        for i, v in enumerate(cfg):
            at = f"{path}[{i}]"
            if isinstance(v, Mapping):
                items.append({k: values.get(f"{at}.{k}", u) for k, u in v.items()})
            else:
                items.append(with_numbers(v, values, at))
        return typing.cast(T, tuple(items))
    return cfg


def checked(cfg: T) -> T:
    """`cfg` itself, its ranges and those of all that is in it being checked again. Raises RequestError."""
    if dataclasses.is_dataclass(cfg):
        for f in dataclasses.fields(cfg):
            checked(getattr(cfg, f.name))
        again: Callable[[], None] | None = getattr(cfg, "__post_init__", None)
        if again is not None:
            again()
    elif isinstance(cfg, tuple):
        for value in cfg:
            checked(value)
    return cfg


def structure(cfg: T) -> T:
    """`cfg` with every traced number set to 0: equal for configs that share a compiled program."""
    return with_numbers(cfg, dict.fromkeys(numbers(cfg), 0.0))


def digest(data: Any, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of canonical JSON."""
    text = json.dumps(to_dict(data), sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
