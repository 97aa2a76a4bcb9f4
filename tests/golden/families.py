"""All families of algorithms together. Each is a module with the same five names:

METHODS: algorithm -> its slow loop. OTHER: path of a number -> another value for it, and one that is
added without a value fails. UNUSED: (algorithm, path) -> why the number does nothing there. VARIANTS:
structure that an algorithm reads beside its numbers. IDENTITIES: "algorithm: what it is" -> Identity.
"""

from typing import Any

from tests.golden import (
    adapted,
    averaging,
    boosted,
    contrastive,
    decentralised,
    exact,
    late,
    personal,
    servers,
)
from tests.golden.identity import Identity
from tests.golden.reference import Method

FAMILIES: tuple[Any, ...] = (
    averaging,
    servers,
    exact,
    boosted,
    contrastive,
    personal,
    late,
    decentralised,
    adapted,
)

METHODS: dict[str, Method] = {}
OTHER: dict[str, float] = {}
UNUSED: dict[tuple[str, str], str] = {}
VARIANTS: dict[str, dict[str, Any]] = {}
IDENTITIES: dict[str, Identity] = {}
for family in FAMILIES:
    METHODS |= family.METHODS
    OTHER |= family.OTHER
    UNUSED |= family.UNUSED
    VARIANTS |= family.VARIANTS
    IDENTITIES |= family.IDENTITIES
