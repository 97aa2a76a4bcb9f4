"""A region's records as tables of the OMOP common data model, and features with an index date from them.

`write` puts records into Parquet files or a DuckDB database, `read` opens such a region, and `extract` makes
one row per patient of it by a `Definition`. NumPy, pyarrow and DuckDB only.

Source: OHDSI, "OMOP Common Data Model", version 5.4.
"""

from __future__ import annotations

from fedsim.omop.definition import Definition, load
from fedsim.omop.extract import Extract, Reading, extract
from fedsim.omop.read import Site, read, sites
from fedsim.omop.write import write

__all__ = ["Definition", "Extract", "Reading", "Site", "extract", "load", "read", "sites", "write"]
