"""Sums that the server sees without seeing what they are sums of.

Protocols run for real in `exact`; `masking` is their compiled stand-in. Neither is imported here: the one
needs `cryptography`, the other JAX.
"""

from fedsim.secure.attendance import Aborted, Attendance, aborted, attendance, check, graph, terms
from fedsim.secure.cost import Traffic, packed, traffic

__all__ = [
    "Aborted",
    "Attendance",
    "Traffic",
    "aborted",
    "attendance",
    "check",
    "graph",
    "packed",
    "terms",
    "traffic",
]
