"""A metric: what is measured of each sample, and how samples become one number.

Every sample contributes a short vector of *sufficient statistics*; a score is a formula of their
sum (Post 2018, sacrebleu). So BLEU, F1 and plain accuracy share one road: totals by group are sums,
and a bootstrap only re-weights rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Formula = Callable[[Array], Array]
"""From summed statistics, shape ``[..., k]``, to scores, shape ``[...]``."""

Unit = Literal["percent", "points"]
"""``percent``: a fraction in 0..1 that is shown ×100. ``points``: shown as it is (BLEU, chrF)."""


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one number of a task is made; written into ``run.json``, so reports need no plugin.

    Attributes:
        name: the field's standard name, such as ``accuracy``.
        formula: a name in :data:`evalsuite.metrics.formulas.FORMULAS`.
        statistic: the key in ``Record.scores`` that it reads; the name itself if empty.
        per_cluster: the formula is of each cluster's sum, and the score their mean.
        macro_over: a tag; the score is then the unweighted mean over that tag's values.
        signature: how it was computed, e.g. sacrebleu's signature.
    """

    name: str
    formula: str = "mean"
    statistic: str = ""
    macro_over: str = ""
    per_cluster: bool = False
    unit: Unit = "percent"
    higher_is_better: bool = True
    signature: str = ""

    @property
    def source(self) -> str:
        """The key in ``Record.scores`` that holds this metric's statistics."""
        return self.statistic or self.name

    @property
    def scale(self) -> int:
        """From the metric's own unit to the shown scale: 100 for ``percent``, 1 for ``points``."""
        return 100 if self.unit == "percent" else 1
