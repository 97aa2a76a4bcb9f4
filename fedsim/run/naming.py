"""Whose fault it is: a cell's labels before what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fedsim.base import Refusal, RequestError


@contextmanager
def naming(labels: Mapping[str, Any]) -> Iterator[None]:
    """Raises RequestErrors from within it again, after the cell: `algorithm=local, seed=0: ...`."""
    where = ", ".join(f"{axis}={label}" for axis, label in labels.items())
    try:
        yield
    except Refusal as error:
        raise Refusal(f"{where}: {error.reason}" if where else error.reason, error.advice) from error
    except RequestError as error:
        raise RequestError(f"{where}: {error}" if where else str(error)) from error
