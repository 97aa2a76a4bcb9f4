"""Where a process writes what is not whole yet: folders named by process and host, so that they can be
cleared away when it was killed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable
from pathlib import Path

from fedsim.store.owners import namespace

_OWNER = re.compile(r"\.tmp-(?P<pid>\d+)-(?P<namespace>\d+)-[0-9a-f]{32}-(?P<host>.*)")


def name(root: Path) -> Path:
    """A folder for this process in `root`, which does not exist yet."""
    return root / f".tmp-{os.getpid()}-{namespace()}-{uuid.uuid4().hex}-{socket.gethostname()}"


def clean(root: Path, names: Iterable[str]) -> None:
    """Remove those folders of `root` that are a process's on this host, which is gone."""
    here = (str(namespace()), socket.gethostname())
    for said in names:
        owner = _OWNER.fullmatch(said)
        if owner and owner.group("namespace", "host") == here and not _is_alive(int(owner["pid"])):
            shutil.rmtree(root / said, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
