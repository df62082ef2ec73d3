"""Checks of notebook 06: the verdict of two orders, a bootstrap of one's own, a win rate at equal length.

Knows: what a right answer does, on small data of its own, and which mistake a wrong one points to. Does not know:
how the student wrote it. The first hint fits the case that went wrong; the others say more about the way.
"""

from statistics import mean

from baize_nb import evaluation

from . import attempt, report

_SWAP = "in the second order A is the other model's reply: translate the letters of each order into names first."
_BOTH = "a choice in one order only is no win: call it a tie."
_C = "C means that neither is better: a tie, whatever the other order says."
_ORDERS = (  # (answer with a shown first, answer with b shown first, verdict, hint)
    ("A", "B", "a", _SWAP),
    ("B", "A", "b", _SWAP),
    ("A", "A", "tie", _SWAP),
    ("B", "B", "tie", _SWAP),
    ("A", "C", "tie", _BOTH),
    ("C", "B", "tie", _BOTH),
    ("B", "C", "tie", _BOTH),
    ("C", "A", "tie", _BOTH),
    ("C", "C", "tie", _C),
)


def two_orders(answer):
    """Exercise 1. answer(a_first, b_first) must give "a", "b" or "tie" for the judge's letters in both orders."""
    problem, hint = _wrong_order(answer)
    hints = (
        hint,
        'the judge means the reply of a by "A" in the first order and by "B" in the second.',
        'if (a_first, b_first) == ("A", "B"): it is "a"; ("B", "A") is "b"; all else is a tie.',
    )
    return report("two_orders", problem, hints)


def _wrong_order(answer):
    """(problem, hint) of the first two letters that `answer` gets wrong, ("", "") for none."""
    for a_first, b_first, right, hint in _ORDERS:
        found, problem = attempt(answer, a_first, b_first)
        if not problem and found != right:
            problem = (
                f"with {a_first} when a is first and {b_first} when b is first, {right!r} is right, not {found!r}."
            )
        if problem:
            return problem, hint
    return "", ""


_VALUES = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
_REPLACE = "a draw without replacement is the same numbers in another order: let one number be drawn more than once."
_ENDS = "the middle 95 % leaves 2.5 % out on each side: sort the results, and cut off there."
_STATISTIC = "call `statistic` on each new sample: it may be the sum, or anything else."
_SIZE = "each new sample has as many numbers as `values` has."


def bootstrap(answer):
    """Exercise 2. answer(values, statistic) must give (low, high) of the percentile bootstrap, 95 %."""
    problem, hint = _wrong_bootstrap(answer)
    hints = (
        hint,
        "random.choices(values, k=len(values)) draws with replacement; do that 2,000 times.",
        "results = sorted(statistic(random.choices(values, k=len(values))) for _ in range(2000)); "
        "then return results[50], results[1949].",
    )
    return report("bootstrap", problem, hints)


def _wrong_bootstrap(answer):
    """(problem, hint), ("", "") where nothing is wrong."""
    for statistic in (mean, sum):
        found, problem = attempt(answer, list(_VALUES), statistic)
        found = found.tolist() if hasattr(found, "tolist") else found  # NumPy's arrays are as good
        if not problem and not (isinstance(found, (tuple, list)) and len(found) == 2):
            problem = f"it should return two numbers, (low, high); it returned {found!r}."
        if problem:
            return problem, "return the two ends of the interval, the lower one first."
        right = evaluation.bootstrap(_VALUES, statistic)
        width, wanted = found[1] - found[0], right.high - right.low
        told = f"of the {statistic.__name__}: ({found[0]:.2f}, {found[1]:.2f}) is"
        if width <= 0:
            return f"{told} no interval.", _REPLACE
        if statistic is sum and abs(found[0] - right.low) + abs(found[1] - right.high) > 0.4 * wanted:
            return f"{told} not near ({right.low:.2f}, {right.high:.2f}).", _STATISTIC
        if not 0.5 < width / wanted < 2:
            return f"{told} {width / wanted:.1f} times as wide as it should be.", _SIZE
        if not 0.91 < width / wanted < 1.12:
            return f"{told} {'too narrow' if width < wanted else 'too wide'}.", _ENDS
    return "", ""


_LONGER = [30, 25, 22, 18, 12, 8, 35, 28, 3, -4, 15, 20, -12, -20, -8, -15, 6, 10, -3, -25]
_SCORES = [1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0]
_AT_ZERO = "the win rate at equal length is the fitted curve at difference 0, where only the intercept is left."
_CURVE = "the intercept is a log-odds: 1 / (1 + exp(-intercept)) makes a share of it."
_PLAIN = "that is the plain win rate: the fit has to take the length out of it."


def length_controlled(answer):
    """Exercise 3. answer(longer, scores) must give the win rate at equal length, by evaluation.logistic."""
    right = evaluation.verdicts.chance(evaluation.logistic(_LONGER, _SCORES)[0])
    found, problem = attempt(answer, list(_LONGER), list(_SCORES))
    hint = "return one number, from 0 to 1."
    if not problem and not isinstance(found, (int, float)):
        problem = f"it should return a number, it returned {found!r}."
    if not problem and not abs(found - right) < 0.02:
        problem = f"{found:.2f} came where {right:.2f} is right: 20 pairs, of which the longer reply wins most."
        hint = _PLAIN if abs(found - mean(_SCORES)) < 1e-6 else _AT_ZERO if 0 <= found <= 1 else _CURVE
    hints = (
        hint,
        "intercept, slope = evaluation.logistic(longer, scores); the log-odds of a win are intercept + slope · longer.",
        "put longer = 0 in, and turn log-odds x into a share by 1 / (1 + math.exp(-x)).",
    )
    return report("length_controlled", problem, hints)
