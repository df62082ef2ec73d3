"""What verdicts add up to: wins that both orders agree on, position bias, win rates, agreement between two judges.

Knows: verdicts and arithmetic. Does not know: who judged (judging.py). Built in notebook 06.
"""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from .. import moderation
from .intervals import bootstrap

SCORE = {"a": 1.0, "tie": 0.5, "b": 0.0}
RIDGE = 0.1  # keeps the fit finite where one side wins everything; hardly felt otherwise


class Verdict(NamedTuple):
    """What a judge said of one pair of replies, a and b, in both orders.

    a_first, b_first : "a", "b", "tie" or "unreadable": its choice where a, or b, was shown first.
    longer           : words of a minus words of b.
    """

    id: str
    a_first: str
    b_first: str
    longer: int = 0

    @property
    def agrees(self):
        """Whether both orders led to the same choice, a tie included."""
        return self.a_first == self.b_first != "unreadable"

    @property
    def winner(self):
        """ "a" or "b" where both orders say so, else "tie". Built in notebook 06."""
        return self.a_first if self.agrees else "tie"

    @property
    def place(self):
        """ "first" or "second" where that place was chosen in both orders, whoever stood there; else None."""
        return {("a", "b"): "first", ("b", "a"): "second"}.get((self.a_first, self.b_first))


def tally(verdicts):
    """{what: number or moderation.Rate} of verdicts, of which there must be some.

    pairs, wins, losses, ties : of a, by `Verdict.winner`; a tie is whatever the two orders do not agree on.
    agrees     : pairs in which both orders led to the same choice.
    same place : pairs in which the judge chose a place both times, not a reply: its position bias.
    first      : choices of the reply shown first, among all choices of one reply; one half without bias.
    unreadable : answers that were none of the choices.
    """
    won, n = Counter(v.winner for v in verdicts), len(verdicts)
    shown = [(v.a_first, "a") for v in verdicts] + [(v.b_first, "b") for v in verdicts]
    chosen = [choice == first for choice, first in shown if choice in ("a", "b")]
    return {
        "pairs": n,
        "wins": won["a"],
        "losses": won["b"],
        "ties": won["tie"],
        "agrees": moderation.wilson(sum(v.agrees for v in verdicts), n),
        "same place": moderation.wilson(sum(v.place is not None for v in verdicts), n),
        "first": moderation.wilson(sum(chosen), len(chosen)) if chosen else None,
        "unreadable": sum(choice == "unreadable" for choice, _ in shown),
    }


def win_rate(verdicts, draws=2000):
    """`Interval` of the win rate of a, bootstrapped over pairs; a tie counts half."""
    return bootstrap([SCORE[v.winner] for v in verdicts], draws=draws)


def length_controlled(verdicts, draws=1000):
    """`Interval` of the win rate of a, had both replies always the same length. Built in notebook 06.

    A logistic regression of the verdict on the difference in length, read off at no difference; bootstrapped over
    pairs. The idea is that of length-controlled AlpacaEval (Dubois et al. 2024), whose model has more terms.
    """
    table = [(v.longer, SCORE[v.winner]) for v in verdicts]
    return bootstrap(table, lambda rows: chance(logistic(rows[:, 0], rows[:, 1])[0]), draws)


def chance(log_odds):
    """The share, 0 … 1, that log-odds stand for."""
    return 1 / (1 + math.exp(-log_odds))


def logistic(longer, scores, ridge=RIDGE):
    """(intercept, slope) of log-odds(win) = intercept + slope · difference in length. Built in notebook 06.

    longer : differences in words. scores : 1 for a win of a, 0 for a loss, ½ for a tie. ridge : weight of a penalty on
    both numbers (the slope's for a difference of usual size), without which a side that wins all has no finite fit.
    """
    longer, scores = np.asarray(longer, float), np.asarray(scores, float)
    usual = np.sqrt(np.mean(longer**2)) or 1.0
    inputs, weights = np.column_stack([np.ones(len(longer)), longer / usual]), np.zeros(2)
    for _ in range(30):  # Newton's method
        wins = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (scores - wins) - ridge * weights
        bend = (inputs * (wins * (1 - wins))[:, None]).T @ inputs + ridge * np.eye(2)
        step = np.linalg.solve(bend, slope)
        weights = weights + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1] / usual)


def kappa(labels, others):
    """Cohen's kappa of two judges' labels, in the same order: 1 full agreement, 0 what chance alone would give.

    nan where both always say the same one thing: then there is nothing to tell apart. Source: Cohen (1960).
    """
    n = len(labels)
    same = sum(x == y for x, y in zip(labels, others, strict=True)) / n
    mine, theirs = Counter(labels), Counter(others)
    luck = sum(mine[label] * theirs[label] for label in mine) / n**2
    return (same - luck) / (1 - luck) if luck < 1 else float("nan")
