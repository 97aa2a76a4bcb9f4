"""What every source says it is under conditions, and when it is not: rows, and whose they are."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedsim import config, data, omop
from fedsim.cohort import Cohort
from fedsim.cohort import records as cohort_records
from fedsim.cohort.generator import generator
from fedsim.config import HeartFailure, Omop
from fedsim.config.data import (
    Arrays,
    Blobs,
    Diabetes130,
    Digits,
    HeartDisease,
    Idx,
    SepsisNorway,
    Support2,
    Synthetic,
    Table,
    TcgaBrca,
)
from fedsim.data.federation import Federation
from tests.contract.members import Found, Law
from tests.data import known
from tests.data.test_idx import encoded
from tests.data.test_tcga_brca import PARTS, PATIENTS


def held(fed: Federation) -> dict[str, Any]:
    assert fed.columns is not None
    return {"sizes": fed.sizes, **fed.columns}


def rows(cfg: config.DataConfig, put: Callable[[Path], None] = lambda folder: None) -> Found:
    """What a source holds; paths are in the folder."""

    def found(folder: Path) -> Any:
        put(folder)
        named: Any = cfg  # some have a path
        path = getattr(cfg, "path", None)
        return held(data.load(replace(named, path=str(folder / path)) if path else cfg))

    return found


def made(cfg: Blobs) -> Found:
    """What the recipe gives inside a program."""

    def found(folder: Path) -> dict[str, Any]:
        fed = data.load(cfg)
        assert fed.generate is not None
        parts = [
            fed.generate.rows(np, np.full(n, k, np.uint32), np.arange(n, dtype=np.uint32))
            for k, n in enumerate(fed.sizes)
        ]
        return {"sizes": fed.sizes, **{c: np.concatenate([p[c] for p in parts]) for c in ("x", "y")}}

    return found


X = np.arange(24, dtype=np.float32).reshape(6, 4)
PARTS_OF = {"x": X, "y": np.array([0, 1, 1, 0, 1, 0]), "offsets": np.array([0, 2, 6])}


def as_npz(folder: Path) -> None:
    np.savez(folder / "mine.npz", x=PARTS_OF["x"], y=PARTS_OF["y"], offsets=PARTS_OF["offsets"])


def as_folder(folder: Path, shift: float = 0.0) -> None:
    (folder / "mine").mkdir()
    for name, x in PARTS_OF.items():
        np.save(folder / "mine" / f"{name}.npy", x + np.float32(shift) if name == "x" else x)


def as_csv(folder: Path) -> None:
    site = np.repeat(["a", "b"], np.diff(PARTS_OF["offsets"]))
    lines = [",".join(map(str, (*x, y, s))) for x, y, s in zip(X, PARTS_OF["y"], site, strict=True)]
    (folder / "mine.csv").write_text("\n".join(["u,v,w,z,label,site", *lines]) + "\n")


def pictures(packed: bool, seed: int = 0) -> Callable[[Path], None]:
    """An idx file of each kind, plain or not."""

    def put(folder: Path) -> None:
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 256, (12, 3, 2), np.uint8), np.arange(12, dtype=np.uint8) % 3
        for name, values in (("images-idx3", x), ("labels-idx1", y)):
            file, content = f"t10k-{name}-ubyte", encoded(values)
            (folder / (file + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)

    return put


def patients(packed: bool, more: str = "") -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        for name, text in (
            ("brca.csv", PATIENTS.replace("70", "70" + more)),
            ("train_test_split.csv", PARTS),
        ):
            content = text.encode()
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)

    return put


def published(cfg: config.DataConfig, packed: bool = False) -> Found:
    """Of files that stand in for the published ones."""

    def put(there: Path) -> None:
        known.write(there, known.TEXTS, packed)

    def found(folder: Path) -> Any:
        with known.published(known.TEXTS):
            return rows(cfg, put)(folder)

    return found


def filled(found: Found) -> Found:
    """With a number where a value is missing: one is compared, NaN would not be."""
    return lambda folder: jax.tree.map(lambda x: np.nan_to_num(x, nan=-9.0), found(folder))


def regions(form: Any) -> Callable[[Path], None]:
    """Simulated patients of Örebro, with a unit of its own, as OMOP tables."""

    def put(folder: Path) -> None:
        cohort = Cohort(HeartFailure(regions="orebro", patients=300, external=()))
        omop.write(cohort_records(cohort, 0), folder, form)

    return put


def dealt(clients: int) -> Found:
    """All digits, and the sizes of what is theirs for one client of so many."""

    def found(folder: Path) -> Any:
        fed = data.load(Digits(clients=clients))
        assert fed.columns is not None
        return {"ends": [int(fed.offsets[0]), int(fed.offsets[1])], "y": fed.columns["y"]}

    return found


def ages(of: str, without: str) -> Found:
    """Patients' ages by hospital that one variant has more often than the other."""

    def counted(variant: Any) -> dict[tuple[int, float], int]:
        fed = data.load(HeartDisease(variant=variant))
        assert fed.columns is not None
        x = fed.columns["x"][:, fed.features.index("age")]
        keys = zip(fed.client_of_row().tolist(), x.tolist(), strict=True)
        found: dict[tuple[int, float], int] = {}
        for key in keys:
            found[key] = found.get(key, 0) + 1
        return found

    def found(folder: Path) -> list[tuple[int, float]]:
        mine, theirs = counted(of), counted(without)
        return [key for key, n in mine.items() if n > theirs.get(key, 0)]

    return found


def of_region(cfg: HeartFailure) -> Found:
    """Patients of all regions at once, each region's ways looked up: what compiled programs do."""

    def found(folder: Path) -> dict[str, Any]:
        cohort = Cohort(cfg)
        sizes = cohort.sizes
        patient = np.concatenate([np.arange(n, dtype=np.uint32) for n in sizes])
        region = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        made = generator(cohort, np)(region, patient)
        known = made["known"]
        of_known = np.bincount(region[known], minlength=len(sizes))
        return {"sizes": of_known, "x": made["x"][known], "y": made["y"][known].astype(np.int32)}

    return found


PATIENTS_OF = HeartFailure(patients=300)
FEW = Blobs(clients=4, rows_min=3, rows_max=6, test_rows=0)
LABELLED = Table(path="mine.csv", label="label", client="site")
SOURCES: dict[str, Law] = {
    "arrays: a folder holds what an npz file does": Law(
        rows(Arrays(path="mine"), as_folder),
        rows(Arrays(path="mine.npz"), as_npz),
        rows(Arrays(path="mine"), lambda folder: as_folder(folder, 1.0)),
    ),
    "blobs: a recipe makes the rows that are stored": Law(made(FEW), rows(FEW), made(replace(FEW, seed=1))),
    "digits: one client has all, in the same order": Law(
        dealt(1), lambda folder: {**dealt(10)(folder), "ends": [0, 1797]}, dealt(2)
    ),
    "heart_disease: flamby's patients are among all": Law(
        ages("flamby", "full"), lambda folder: [], ages("full", "flamby")
    ),
    "heart_failure: patients do not depend on who is made beside them": Law(
        rows(PATIENTS_OF), of_region(PATIENTS_OF), rows(replace(PATIENTS_OF, seed=1))
    ),
    "idx: plain files are those that are packed": Law(
        rows(Idx(path=".", clients=3), pictures(False)),
        rows(Idx(path=".", clients=3), pictures(True)),
        rows(Idx(path=".", clients=3), pictures(False, seed=1)),
    ),
    "omop: a database holds what files do": Law(
        filled(rows(Omop(path="."), regions("duckdb"))),
        filled(rows(Omop(path="."), regions("parquet"))),
        filled(rows(Omop(path=".", harmonise=False), regions("parquet"))),
    ),
    "synthetic: IID, clients have no models of their own to differ by": Law(
        rows(Synthetic(iid=True, alpha=0.0, beta=0.0, clients=3)),
        rows(Synthetic(iid=True, alpha=2.0, beta=3.0, clients=3)),
        rows(Synthetic(iid=False, alpha=0.0, beta=0.0, clients=3)),
    ),
    "table: a table holds what arrays do": Law(
        rows(LABELLED, as_csv),
        rows(Arrays(path="mine.npz"), as_npz),
        rows(replace(LABELLED, drop=("z",)), as_csv),
    ),
    "diabetes_130: packed is plain, and deaths are left out": Law(
        published(Diabetes130(path=".", min_rows=1)),
        published(Diabetes130(path=".", min_rows=1), packed=True),
        published(Diabetes130(path=".", min_rows=1, exclude_deaths=False)),
    ),
    "sepsis_norway: packed is plain, and cohorts differ": Law(
        published(SepsisNorway(path=".")),
        published(SepsisNorway(path="."), packed=True),
        published(SepsisNorway(path=".", cohort="both")),
    ),
    "support2: packed is plain, and outcomes differ": Law(
        published(Support2(path=".", features=("age", "alb"), impute_normal=True)),
        published(Support2(path=".", features=("age", "alb"), impute_normal=True), packed=True),
        published(Support2(path=".", features=("age", "alb"), impute_normal=True, outcome="hospital_death")),
    ),
    "tcga_brca: plain files are those that are packed": Law(
        rows(TcgaBrca(path="."), patients(False)),
        rows(TcgaBrca(path="."), patients(True)),
        rows(TcgaBrca(path="."), patients(False, more=".5")),
    ),
}
