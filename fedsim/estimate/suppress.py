"""Which counts of a column a site may say, where small ones must not be known and the total is.

Source: Hundepool et al., "Statistical Disclosure Control", Wiley 2012, chapter 4: primary suppression of
small cells, secondary suppression of others from which they would follow.
"""

from __future__ import annotations

import numpy as np

HIDDEN = -1


def suppressed(counts: np.ndarray, k: int) -> np.ndarray:
    """int64[m]: counts, or HIDDEN, of m cells that add up to a known total; k >= 3.

    Where a cell is small, 1 to k - 1, all of 1 to 2 k - 1 are hidden: exchanged, they look the same, so none
    of them follows, not even for who knows this rule. One that is alone is hidden with its next neighbour
    that is not empty. Where all hidden ones would be 1, or the total is below k + m, all cells are hidden.
    Without a small cell all are said, empty ones too.
    """
    found = counts.astype(np.int64)
    if found.sum() < k + len(found):
        return np.full_like(found, HIDDEN)
    if not ((found > 0) & (found < k)).any():
        return found
    hidden = (found > 0) & (found < 2 * k)
    if hidden.sum() == 1:
        (alone,) = np.flatnonzero(hidden)
        others = np.roll(np.arange(len(found)), -alone - 1)
        hidden[next(i for i in others if found[i] > 0 and i != alone)] = True
    elif (found[hidden] == 1).all():
        hidden[:] = True
    return np.where(hidden, HIDDEN, found)
