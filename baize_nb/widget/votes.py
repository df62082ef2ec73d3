"""Votes on two replies to one question: whose turn on which side, kept in a file, counted.

Knows: what a vote is and how it is stored. Does not know: widgets or models. Built in notebook 05.
A vote is a dict: `time`, `question`, `left` and `right` (names of models), `left_reply`, `right_reply`, `choice`
(a key of CHOICES) and `settings` ({"left": …, "right": …}). In a file each is one line of JSON.
"""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

from .. import common
from ..common import CourseError

CHOICES = {"left": "Left is better", "right": "Right is better", "same": "The same", "bad": "Both bad"}
SIDES = ("left", "right")


class Votes:
    """Votes in memory, and in a file where a path is given; what the file holds already counts as well.

    path : JSONL, appended to. Raises CourseError with the line number where it holds something else.
    """

    def __init__(self, path=None):
        self.path = Path(path) if path else None
        self.cast = read(self.path) if self.path and self.path.exists() else []

    def add(self, vote):
        """Count a vote after the disk has confirmed it. Raises CourseError where it can't be written: cast it again."""
        vote = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **vote}
        if self.path:
            from ..common import Journal

            with Journal(self.path) as journal:
                journal.append(vote)
        self.cast.append(vote)

    def tally(self, names=()):
        """`{name: (times it was shown, times it was better)}`, names in the given order first."""
        shown = {name: [0, 0] for name in names}
        for vote in self.cast:
            for side in SIDES:
                count = shown.setdefault(vote[side], [0, 0])
                count[0] += 1
                count[1] += vote["choice"] == side
        return {name: tuple(count) for name, count in shown.items()}

    def ties(self):
        """`{"same": how often, "bad": how often}`."""
        return {choice: sum(vote["choice"] == choice for vote in self.cast) for choice in ("same", "bad")}


def draw(names, seed, turn):
    """(left, right): two different names for this turn. The same seed and turn give the same draw."""
    return tuple(random.Random(f"{seed}:{turn}").sample(list(names), 2))


def read(path):
    """The votes of a file. A last line that was torn off by a kill is left out; any other fault is a CourseError."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    return [_vote(line, f"{common.show(path)}:{number}") for number, line in enumerate(lines[:-1], 1) if line.strip()]


def _vote(line, where):
    """One line as a vote."""
    try:
        vote = json.loads(line)
        if vote["choice"] in CHOICES and all(isinstance(vote[side], str) for side in SIDES):
            return vote
    except (ValueError, KeyError, TypeError):
        pass
    raise CourseError(f"{where} is not a vote. Mend the line, or give CompareWidget another path.")
