"""What a kind of frozen model of times to an event is to the protocol, and to regions' adaptations."""

from __future__ import annotations

from typing import Any, Protocol

from fedsim.config.validation import Update
from fedsim.metrics import Absolute
from fedsim.validation.logistic import Floats
from fedsim.validation.rows import Frozen, Rows
from fedsim.validation.updates import Updated


class OverTime(Protocol):
    """A frozen model of hazards. Its predictor, `Rows.predictor`, is what updates change: [n, ...]."""

    @property
    def least(self) -> Update:
        """The smallest update: one number for all hazards."""

    @property
    def parted(self) -> str:
        """Why there is no maximum of the likelihood, where there is none."""

    @property
    def unfit(self) -> str:
        """What kind of stored model `refit` has no test for."""

    def check(self, site: Rows) -> None:
        """Raises RequestError where updates cannot be fitted to the site's rows, up to the horizon."""

    def fit(self, name: Update, rows: Rows, ridge: float = 0.0) -> Updated:
        """Fit one update to rows whose follow-up ends at the horizon.

        Args:
          ridge: penalty on changes of everything but the one number of the smallest update.
        """

    def after(self, update: Updated, x: Floats, predictor: Floats) -> Floats:
        """The predictor of rows with features x [n, F] after an update."""

    def estimates(self, update: Updated, frozen: Frozen) -> list[dict[str, Any]]:
        """What an update estimated: see `updates.estimates`."""

    def risks(self, predictor: Floats, times: Floats) -> tuple[Floats, Absolute]:
        """(scores [n], the higher the earlier; what makes probabilities of them by `times`)."""
