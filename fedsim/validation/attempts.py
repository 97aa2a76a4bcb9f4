"""Plans and attempts of outside validations, beside the runs of a store; only ever added to.

  .validation/RUN/plans/HASH.yaml   a plan, and HASH.json, when it was written and what was known then
  .validation/RUN/ATTEMPT/          manifest.json and one Parquet file per table, as a run's folder has

HASH is the SHA-256 of the plan's file; an attempt's id is the hash of that, of the rows and of the code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedsim.base import FedsimError, RequestError, build, digest, require
from fedsim.config.validation import ValidationPlan
from fedsim.store import identity
from fedsim.store.identity import plain

FOLDER = ".validation"
HEADER = "# A plan of fedsim validate. It counts by its SHA-256: do not edit it, write a new one.\n"


def text_of(plan: ValidationPlan) -> bytes:
    """The one file of a plan: equal plans have equal bytes, those of before there were horizons and groups
    too."""
    import yaml

    later: dict[str, Any] = {"horizon": None, "groups": {}}
    values = {name: value for name, value in plain(plan).items() if later.get(name, ()) != value}
    body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return (HEADER + str(body)).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_plan(path: Path) -> tuple[ValidationPlan, str]:
    """A plan's file, and its SHA-256.

    Raises:
      RequestError: it cannot be read, or is not as `text_of` writes it.
    """
    import yaml

    require(path.is_file(), f"no plan {path}; write one with --write-plan {path}")
    content = path.read_bytes()
    try:
        values = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise RequestError(f"plan {path} is no YAML ({' '.join(str(error).split())})") from None
    require(isinstance(values, dict), f"plan {path} must be a mapping, got {values!r}")
    plan = build(ValidationPlan, values)
    require(
        text_of(plan) == content,
        f"plan {path} was edited by hand; write the plan that you mean with --write-plan, under a new name",
    )
    return plan, sha256(content)


class Attempts:
    """Validations of one run of a store."""

    def __init__(self, root: Path, run: str) -> None:
        self.run, self.folder = run, root / FOLDER / run

    # --- plans -------------------------------------------------------------------------------

    def register(self, plan: ValidationPlan, judged: bool) -> tuple[str, dict[str, Any]]:
        """Keep a plan; one that is there already stays as it is.

        Args:
          judged: whether the run itself stored metrics at the site.

        Returns:
          (its SHA-256, {written, looked}: what had been evaluated at the site when it was first written).
        """
        content = text_of(plan)
        found = sha256(content)
        known = self.registered(found)
        if known is not None:
            return found, known
        looked = [f"attempt {one['attempt']}" for one in self.list(plan.site)]
        looked += ["the run itself, which stored metrics there"] if judged else []
        note = {"written": datetime.now(UTC).isoformat(timespec="seconds"), "looked": looked}
        plans = self.folder / "plans"
        try:
            plans.mkdir(parents=True, exist_ok=True)
            _whole(plans / f"{found}.yaml", content)
            _whole(plans / f"{found}.json", json.dumps(note).encode())
        except OSError as error:
            raise _unwritten(plans, error) from error
        return found, self.registered(found) or note

    def registered(self, found: str) -> dict[str, Any] | None:
        """What is known of a plan by its SHA-256; None where it was never written for this run."""
        path = self.folder / "plans" / f"{found}.json"
        if not path.is_file():
            return None
        note: dict[str, Any] = json.loads(path.read_bytes())
        return note

    # --- attempts ----------------------------------------------------------------------------

    def list(self, site: str | None = None) -> list[dict[str, Any]]:
        """Manifests of what was evaluated, oldest first; of all sites, or of one."""
        found = [json.loads(path.read_bytes()) for path in self.folder.glob("*/manifest.json")]
        mine = [one for one in found if site is None or one["site"] == site]
        return sorted(mine, key=lambda one: (one["written"], one["attempt"]))

    def stored(self, attempt: str) -> dict[str, Any] | None:
        """The manifest of an attempt; None where there is none."""
        return next((one for one in self.list() if one["attempt"] == attempt), None)

    def write(
        self, attempt: str, manifest: Mapping[str, Any], tables: Mapping[str, Sequence[Any]]
    ) -> dict[str, Any]:
        """Store an attempt and return its manifest; one that is stored is left alone.

        Raises:
          FedsimError: it cannot be written; nothing of it is kept.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        aside = self.folder / f".tmp-{os.getpid()}-{uuid.uuid4().hex}"
        full = plain({**manifest, "attempt": attempt, "written": datetime.now(UTC).isoformat()})
        full |= {"source": identity.source(), "commit": identity.commit(), "versions": identity.versions()}
        try:
            aside.mkdir(parents=True)
            for name, rows in tables.items():
                if rows:
                    pq.write_table(pa.Table.from_pylist(plain(list(rows))), aside / f"{name}.parquet")
            (aside / "manifest.json").write_text(json.dumps(full, allow_nan=False, ensure_ascii=False))
            try:
                os.rename(aside, self.folder / attempt)
            except OSError:
                if not (self.folder / attempt / "manifest.json").is_file():  # else another process was faster
                    raise
        except OSError as error:
            raise _unwritten(self.folder, error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        kept = self.stored(attempt)
        assert kept is not None
        return kept


def attempt_id(plan_sha256: str, rows_sha256: str) -> str:
    """16 hexadecimal digits: a plan, the site's rows, and the code that evaluates."""
    return digest([plan_sha256, rows_sha256, identity.source()])


def _whole(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    os.replace(aside, path)


def _unwritten(where: Path, error: OSError) -> FedsimError:
    return FedsimError(
        f"{where} cannot be written ({error.strerror or error}); free space there, then "
        "run the same command again"
    )
