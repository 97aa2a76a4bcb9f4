"""Heart-failure patients who do not exist: a generative model, and the records they leave. NumPy only.

`Cohort(config.HeartFailure(...))` is all patients of an experiment; `records(cohort, k)` what region `k` has
of them, `table(cohort)` their features at the index date and what became of them.
"""

from __future__ import annotations

from fedsim.cohort.history import records
from fedsim.cohort.population import Cohort
from fedsim.cohort.records import SCHEMA, Records
from fedsim.cohort.table import table

__all__ = ["SCHEMA", "Cohort", "Records", "records", "table"]
