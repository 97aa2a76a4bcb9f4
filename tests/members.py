"""Every member of every group, and the options it cannot do without, with a value for each."""

import dataclasses
from typing import Any

from fedsim import config

MEMBERS = [(group, name) for group, members in config.MEMBERS.items() for name in members]

# By the option's name, whichever member has it.
_EXAMPLES: dict[str, Any] = {
    "path": "file",
    "client": "hospital",
    "label": "died",
    "cohort": 3,
    "candidates": 5,
    "rate": 0.5,
    "blocks": 2,
    "concurrency": 3,
    "buffer": 2,
    "horizon": 365.0,
    "contributors": 3.0,
    "personal": ("head",),
}


def needed(group: str, name: str) -> dict[str, Any]:
    """The options of a member that have no default."""
    fields = dataclasses.fields(config.MEMBERS[group][name])
    bare = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    return {option: _EXAMPLES[option] for option in bare}


def beside(group: str, name: str) -> dict[str, Any]:
    """Members of other groups that one cannot do without."""
    needs = {("task", "trees"): {"algorithm": "boosting"}, ("algorithm", "boosting"): {"task": "trees"}}
    if (group, name) in needs:
        return needs[group, name] | {"data": {"name": "blobs", "preprocess": {"standardise": True}}}
    return {"secure": "bonawitz"} if issubclass(config.MEMBERS[group][name], config.InRing) else {}
