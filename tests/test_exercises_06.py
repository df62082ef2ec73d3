"""Exercises of notebook 06: a stub gets a hint, the solution passes, a plausible mistake gets the hint that fits."""

import importlib.util
import random
from pathlib import Path
from statistics import mean

import pytest

from baize_nb import evaluation
from baize_nb.checks import evaluation as checks

_FILE = Path(__file__).parent.parent / "notebooks" / "solutions" / "06_evaluation.py"
_SPEC = importlib.util.spec_from_file_location("solutions_06", _FILE)
solutions = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(solutions)


@pytest.fixture(autouse=True)
def dice():
    """Solutions draw from the global random numbers."""
    random.seed(0)


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
    return solutions.bootstrap(values, mean)


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
    "bootstrap": checks.bootstrap,
    "length_controlled": checks.length_controlled,
}
MISTAKES = [
    ("two_orders", letters_for_names, checks._SWAP),
    ("two_orders", one_order, checks._SWAP),
    ("two_orders", one_order_is_enough, checks._BOTH),
    ("bootstrap", shuffles, checks._REPLACE),
    ("bootstrap", ninety, checks._ENDS),
    ("bootstrap", always_the_mean, checks._STATISTIC),
    ("bootstrap", small_samples, checks._SIZE),
    ("length_controlled", plain_rate, checks._PLAIN),
    ("length_controlled", usual_length, checks._AT_ZERO),
    ("length_controlled", log_odds, checks._CURVE),
]


@pytest.mark.parametrize("name", EXERCISES)
def test_a_stub_gets_one_more_hint_each_time_and_the_solution_passes(name, capsys):
    for times in (1, 2, 3, 3):
        assert not EXERCISES[name](lambda *args: None)
        assert capsys.readouterr().out.count("hint") == times
    assert EXERCISES[name](getattr(solutions, name))
    assert capsys.readouterr().out == f"✓ {name}: right.\n"


@pytest.mark.parametrize(("name", "wrong", "hint"), MISTAKES, ids=lambda x: getattr(x, "__name__", None))
def test_a_plausible_mistake_gets_the_hint_that_fits(name, wrong, hint, capsys):
    EXERCISES[name](getattr(solutions, name))  # hints begin anew
    capsys.readouterr()
    assert not EXERCISES[name](wrong)
    assert f"hint 1: {hint}" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
def test_an_error_of_the_students_is_a_sentence(name, capsys):
    assert not EXERCISES[name](lambda *given: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().out
