"""Hydra: config groups to plain data, and its grammar for overrides."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, OverrideType, QuotedString
from hydra.core.override_parser.types import Override as Parsed
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsim import resources
from fedsim.base import GROUPS, RequestError, nearest, require, to_dict
from fedsim.plan import CHOICES, SEED, Override

_BESIDE = "beside_"  # and a number: where one more member of a group is composed
REQUIRED = "???"  # OmegaConf's sign for an option without a default


# --- config groups ---------------------------------------------------------------------------


def members(group: str) -> list[str]:
    """What `group=` may pick: the YAML files of its folder, and what a user's module registered."""
    files = {path.stem for path in (resources.folder("configs") / group).glob("*.yaml")}
    return sorted(files | set(GROUPS.get(group, ())))


def compose(picks: list[str], more: Sequence[str] = ()) -> dict[str, Any]:
    """The whole config as plain data; options that have no default are absent.

    Args:
      picks: "group=member", without any value; more: further members of groups, each of whose options are
        found under its "group=member".

    Raises:
      RequestError: an unknown member.
    """
    for pick in [*picks, *more]:
        group, _, member = pick.partition("=")
        known = members(group)
        require(member in known, f"unknown {group} {member!r}; {nearest(member, known)}")
    _store_registered()
    # To compose takes a quarter of a second, however little, and each member beside the others a tenth of it.
    beside = {f"{_BESIDE}{i}": pick for i, pick in enumerate(more)}
    asked = [*picks, *(f"+{pick.replace('=', f'@{place}=', 1)}" for place, pick in beside.items())]
    try:
        with initialize_config_dir(str(resources.folder("configs")), version_base="1.3"):
            values = OmegaConf.to_container(hydra_compose("config", asked), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(f"{' '.join([*picks, *more])}: {error}") from error
    return {beside.get(name, name): of for name, of in _drop_required(values).items()}


def _store_registered() -> None:
    """A node for every registered config dataclass that has no YAML file."""
    folder = resources.folder("configs")
    for group in CHOICES:
        for name, cls in GROUPS.get(group, {}).items():
            if not (folder / group / f"{name}.yaml").is_file():
                ConfigStore.instance().store(
                    group=group, name=name, node={"name": name, **_defaults(cls)}, provider="fedsim"
                )


def _defaults(cls: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            values[field.name] = to_dict(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = to_dict(field.default_factory())
        else:
            values[field.name] = REQUIRED
    return values


def _drop_required(values: Any) -> Any:
    if isinstance(values, dict):
        return {str(k): _drop_required(v) for k, v in values.items() if v != REQUIRED}
    return values


# --- overrides -------------------------------------------------------------------------------


@functools.cache
def parse(text: str) -> Override:
    """Read one override. Values keep their types; `a,b`, `range(...)` and `choice(...)` sweep; `${seed}` is
    the seed of each cell.

    Raises:
      RequestError: it is not an override, or asks for what an experiment cannot do.
    """
    try:
        parsed = _parser().parse_override(_disguise(text))
        require(
            parsed.type is not OverrideType.DEL,
            f"{text!r} removes an option, and an experiment needs all of them; set a value instead",
        )
        require(
            parsed.package is None,
            f"{text!r} has a package after @, and fedsim has none; write {parsed.key_or_group}=...",
        )
        values = tuple(_reveal(v) for v in _values(parsed, text))
    except HydraException as error:
        raise RequestError(_explain(text, error)) from None
    path = _reveal(parsed.key_or_group)
    require(path, f"{text!r} has no name before =; write option=value")
    follows = values == (SEED,) and path != "seed" and path not in CHOICES
    require(
        follows or not any("${" in str(v) for v in values),
        f"{text!r} refers to another option, which only {SEED} can, as in data.seed={SEED}; "
        "write the value itself",
    )
    return Override(path, values, swept=parsed.is_sweep_override())


def _values(parsed: Parsed, text: str) -> list[Any]:
    if not parsed.is_sweep_override():
        return [parsed.value()]
    sweep = parsed.value()
    require(
        not isinstance(sweep, IntervalSweep),
        f"{text!r} has endlessly many values; list them, as in a,b,c or range(0,10)",
    )
    require(
        not getattr(sweep, "shuffle", False),
        f"{text!r} is in random order; leave out shuffle, order is fixed",
    )
    return [Parsed._convert_value(v) for v in parsed.sweep_iterator(transformer=lambda v: v)]


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


# Hydra's grammar knows the letters of ASCII only, and hospitals have others: they go through it as
# __u00d6__, which is a word wherever a letter is.
def _disguise(text: str) -> str:
    return re.sub(r"[^\x00-\x7f]", lambda m: f"__u{ord(m[0]):04x}__", text)


def _reveal(value: Any) -> Any:
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, str):
        return re.sub(r"__u([0-9a-f]{4,6})__", lambda m: chr(int(m[1], 16)), value)
    if isinstance(value, list):
        return [_reveal(v) for v in value]
    if isinstance(value, dict):
        return {_reveal(k): _reveal(v) for k, v in value.items()}
    return value


def _explain(text: str, error: Exception) -> str:
    name, equals, value = text.partition("=")
    if not equals:
        return f"{text!r} is not an override; write option=value, such as algorithm=fedavg"
    if re.search(r"[][={}():]", value):
        return f"{text!r} cannot be read; put the value in quotes: \"{name}='{value}'\""
    return f"{text!r} cannot be read as option=value: {_reveal(str(error)).splitlines()[0]}"
