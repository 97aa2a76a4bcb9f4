"""Which counts of a column a site may say, where small ones must not be known and the total is.

Source: Hundepool et al., "Statistical Disclosure Control", Wiley 2012, chapter 4: primary suppression of
small cells, secondary suppression of others from which they would follow.
"""

from __future__ import annotations

import numpy as np

HIDDEN = -1


def suppressed(counts: np.ndarray, k: int) -> np.ndarray:
    """int64[m]: counts, or HIDDEN, of cells that add up to a known total.

    Cells of 1 to k - 1 are hidden, and then the smallest others until those hidden, of which all are at least
    1, have k - 1 rows more than they need: each could hold one row, or k. Where the cells that are not 0 do
    not suffice, all are hidden. An empty cell is said to be empty otherwise.
    """
    found = counts.astype(np.int64)
    small = (found > 0) & (found < k)
    if not small.any():
        return found
    hidden = small.copy()
    for i in np.argsort(found, kind="stable"):
        if _covered(found, hidden, k):
            break
        hidden[i] |= found[i] > 0
    if not _covered(found, hidden, k):
        hidden[:] = True
    return np.where(hidden, HIDDEN, found)


def _covered(counts: np.ndarray, hidden: np.ndarray, k: int) -> bool:
    return bool(hidden.sum() > 1 and counts[hidden].sum() >= hidden.sum() + k - 1)
