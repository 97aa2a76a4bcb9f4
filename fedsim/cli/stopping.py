"""The wish to stop: Ctrl-C, or the warning that a cluster sends before it takes the machine away."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fedsim.base import Interrupted

WARNINGS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def listening() -> Iterator[Callable[[], bool]]:
    """Within it, what it gives says whether to stop; long work asks between its calls, and saves.

    The first Ctrl-C is a wish, the second one raises KeyboardInterrupt, wherever that is. Interrupted becomes
    KeyboardInterrupt where Ctrl-C was the reason.
    """
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in heard:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            print("fedsim: stopping when this is saved; Ctrl-C again stops at once", file=sys.stderr)
        heard.append(number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, *WARNINGS)}
    try:
        yield lambda: bool(heard)
    except Interrupted:
        if signal.SIGINT in heard:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
