"""Checks of notebook 06: the verdict of two orders, a bootstrap of one's own, a win rate at equal length."""

import math
from collections import Counter
from itertools import product
from numbers import Real
from statistics import mean

from baize_nb import judging

from . import Wrong, call, exercise, expect, refuse, table

SWAP = "in the second order A is the other model's reply: translate the letters of each order into names first."
BOTH = "a choice in one order only is no win: call it a tie."


@exercise(
    'the judge means the reply of a by "A" in the first order and by "B" in the second.',
    'if (a_first, b_first) == ("A", "B"): it is "a"; ("B", "A") is "b"; all else is a tie.',
)
def two_orders(answer):
    """Exercise 1. answer(a_first, b_first) must give "a", "b" or "tie" for the judge's letters in both orders."""
    rows = []
    for a_first, b_first in product("ABC", repeat=2):
        right = {"AB": "a", "BA": "b"}.get(a_first + b_first, "tie")
        rows.append(((a_first, b_first), right, BOTH if "C" in (a_first, b_first) else SWAP))
    table(answer, rows)


VALUES = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
ENDS_IN_ORDER = "return the two ends of the interval, the lower one first."
RESAMPLE = "no formula is needed: draw many new samples of `values`, and call `statistic` on each of them."
REPLACE = "a draw without replacement is the same numbers in another order: let one number be drawn more than once."
MANY = "a hundred samples and more: the ends of the interval lie where few of them are. Take 2,000."
SIZE = "each new sample has as many numbers as `values` has."
ENDS = "the middle 95 % leaves 2.5 % out on each side: sort the results, and cut off there."


@exercise(
    "random.choices(values, k=len(values)) draws with replacement; do that 2,000 times.",
    "results = sorted(statistic(random.choices(values, k=len(values))) for _ in range(2000)); "
    "then return results[50], results[1949].",
)
def bootstrap(answer):
    """Exercise 2. answer(values, statistic) must give (low, high) of the percentile bootstrap, 95 %.

    What the answer gives is compared with the samples that it drew itself, so chance decides nothing.
    """
    for name, statistic in (("mean", mean), ("sum", sum)):
        samples = []

        def watched(sample, statistic=statistic, samples=samples):
            samples.append([float(x) for x in sample])
            return statistic(samples[-1])

        found = call(answer, VALUES, watched, hint=RESAMPLE)
        found = found.tolist() if hasattr(found, "tolist") else found  # NumPy's arrays are as good
        if not (isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(x, Real) for x in found)):
            raise Wrong(f"it should return two numbers, (low, high); it returned {found!r}.", ENDS_IN_ORDER)
        low, high = map(float, found)
        results = [statistic(sample) for sample in samples] or [low]
        below = [sum(x < end for x in results) / len(results) for end in (low, high)]
        above = [sum(x > end for x in results) / len(results) for end in (low, high)]
        cut = f"{below[0]:.1%} of them lie below it, {above[1]:.1%} above it"
        refuse(
            f"({low:.2f}, {high:.2f}) of the {name} came, from {len(samples)} samples: {cut}.",
            (len(samples) < 3, RESAMPLE),
            (any(len(sample) != len(VALUES) for sample in samples), SIZE),
            (all(Counter(sample) == Counter(VALUES) for sample in samples), REPLACE),
            (len(samples) < 100, MANY),
            (low > high, ENDS_IN_ORDER),
            (max(below[0], above[1]) > 0.035 or max(above[0], below[1]) > 0.985, ENDS),
        )


LONGER = [30, 25, 22, 18, 12, 8, 35, 28, 3, -4, 15, 20, -12, -20, -8, -15, 6, 10, -3, -25]
SCORES = [1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0]
AT_ZERO = "the win rate at equal length is the fitted curve at difference 0, where only the intercept is left."
CURVE = "the intercept is a log-odds: 1 / (1 + exp(-intercept)) makes a share of it."
PLAIN = "that is the plain win rate: the fit has to take the length out of it."


@exercise(
    "intercept, slope = judging.logistic(longer, scores); the log-odds of a win are intercept + slope · longer.",
    "put longer = 0 in, and turn log-odds x into a share by 1 / (1 + math.exp(-x)).",
)
def length_controlled(answer):
    """Exercise 3. answer(longer, scores) must give the win rate at equal length, by judging.logistic."""
    right = 1 / (1 + math.exp(-judging.logistic(LONGER, SCORES)[0]))
    found = call(answer, LONGER, SCORES, hint="return one number, from 0 to 1.")
    close = isinstance(found, Real) and abs(found - right) < 0.02
    hint = AT_ZERO if isinstance(found, Real) and 0 <= found <= 1 else CURVE
    expect(right if close else found, right, "20 pairs, of which the longer wins most,", hint, [(mean(SCORES), PLAIN)])
