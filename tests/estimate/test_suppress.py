"""What is hidden cannot be found, by who knows the total, the rule and everything that is said."""

from collections import defaultdict
from itertools import product

import numpy as np
import pytest

from fedsim.estimate.suppress import HIDDEN, suppressed

CASES = [(2, 3, 20), (2, 5, 30), (2, 8, 40), (3, 3, 20), (3, 5, 24), (4, 3, 14), (4, 4, 15), (5, 3, 11)]


@pytest.mark.parametrize(("cells", "k", "most"), CASES)
def test_every_hidden_cell_may_be_several_numbers(cells, k, most):
    """All columns there are, by what is said of them: an attacker knows no more."""
    alike = defaultdict(list)
    for column in product(range(most + 1), repeat=cells):
        if k <= sum(column) <= most:
            alike[sum(column), tuple(suppressed(np.array(column), k).tolist())].append(column)
    hiding = {said: columns for said, columns in alike.items() if HIDDEN in said[1]}
    assert hiding and len(hiding) < len(alike)
    for (total, said), columns in hiding.items():
        for i in range(cells):
            values = {column[i] for column in columns}
            if said[i] == HIDDEN:
                assert len(values) > 1, (total, said, columns)
            else:
                assert values == {said[i]} and (said[i] == 0 or said[i] >= k)


def test_large_and_empty_cells_are_said():
    assert suppressed(np.array([5, 0, 9]), 5).tolist() == [5, 0, 9]
    assert suppressed(np.array([2, 0, 9, 30]), 5).tolist() == [HIDDEN, 0, HIDDEN, 30]
    assert suppressed(np.array([40, 30, 0, 2]), 5).tolist() == [HIDDEN, 30, 0, HIDDEN]
