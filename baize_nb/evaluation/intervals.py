"""How sure a number is: the percentile bootstrap, and Wilson's interval for rates.

Knows: numbers. Does not know: what they measure. Built in notebook 06.
"""

from typing import NamedTuple

import numpy as np

from .. import moderation


class Interval(NamedTuple):
    """A number and the range in which the true one lies with 95 % confidence, as far as chance in the sample goes."""

    value: float
    low: float
    high: float

    def holds(self, number):
        """Whether `number` lies in the range: 0 for a difference says that this measurement sees none."""
        return bool(self.low <= number <= self.high)

    def __str__(self):
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def bootstrap(values, statistic=np.mean, draws=2000, seed=0):
    """`Interval` of statistic(values), by the percentile bootstrap (Efron 1979). Built in notebook 06.

    values    : n numbers, or n rows of several (a dialogue, a pair of replies): rows are drawn whole, so what belongs
                together stays together. statistic : function from such an array to a number.
    draws     : samples of n rows, drawn from the n with replacement; the range holds the middle 95 % of their results.
    Too narrow for few rows, and of no width where all are equal: use `rate` for a share. Raises ValueError for none.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("there is nothing to draw from")
    dice = np.random.default_rng(seed)
    drawn = [statistic(values[dice.integers(len(values), size=len(values))]) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(statistic(values)), float(low), float(high))


def rate(hits):
    """`Interval` of the share of True among `hits`, by Wilson; of some width also where all are alike."""
    found = moderation.wilson(sum(map(bool, hits)), len(hits))
    return Interval(found.hits / found.n, found.low, found.high)
