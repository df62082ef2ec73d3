"""Exercises of notebook 06: their checks, and mistakes with the hint that fits. Used by test_exercises.py."""

import random
from statistics import mean

from exercises import solutions_of

from baize_nb import evaluation
from checks import evaluation as checks

SOLUTIONS = solutions_of("06_evaluation")


def letters_for_names(a_first, b_first):
    """Forgets that A is another model in the second order."""
    return {("A", "A"): "a", ("B", "B"): "b"}.get((a_first, b_first), "tie")


def one_order(a_first, b_first):
    """Takes the first order for the whole, as an evaluation without a swap does."""
    return {"A": "a", "B": "b", "C": "tie"}[a_first]


def one_order_is_enough(a_first, b_first):
    """Calls it a win where one order says so and the other does not object."""
    wins = (a_first == "A") + (b_first == "B") - (a_first == "B") - (b_first == "A")
    return "a" if wins > 0 else "b" if wins < 0 else "tie"


def shuffles(values, statistic):
    """Draws without replacement."""
    results = sorted(statistic(random.sample(values, len(values))) for _ in range(500))
    return results[12], results[487]


def ninety(values, statistic):
    """Leaves out five percent on each side."""
    results = sorted(statistic(random.choices(values, k=len(values))) for _ in range(2000))
    return results[100], results[1899]


def always_the_mean(values, statistic):
    """Does not use the statistic."""
    return SOLUTIONS["interval_of"](values, mean)


def small_samples(values, statistic):
    """Draws fewer numbers than there are."""
    results = sorted(statistic(random.choices(values, k=4)) for _ in range(2000))
    return results[50], results[1949]


def plain_rate(longer, scores):
    """Takes no notice of the length."""
    return mean(scores)


def usual_length(longer, scores):
    """Reads the curve at the mean difference."""
    intercept, slope = evaluation.logistic(longer, scores)
    return evaluation.verdicts.chance(intercept + slope * (mean(longer)))


def log_odds(longer, scores):
    """Gives log-odds for a share."""
    return evaluation.logistic(longer, scores)[0]


EXERCISES = {
    "two_orders": checks.two_orders,
    "interval_of": checks.bootstrap,
    "at_equal": checks.length_controlled,
}
MISTAKES = [
    ("two_orders", letters_for_names, checks._SWAP),
    ("two_orders", one_order, checks._SWAP),
    ("two_orders", one_order_is_enough, checks._BOTH),
    ("interval_of", shuffles, checks._REPLACE),
    ("interval_of", ninety, checks._ENDS),
    ("interval_of", always_the_mean, checks._STATISTIC),
    ("interval_of", small_samples, checks._SIZE),
    ("at_equal", plain_rate, checks._PLAIN),
    ("at_equal", usual_length, checks._AT_ZERO),
    ("at_equal", log_odds, checks._CURVE),
]
