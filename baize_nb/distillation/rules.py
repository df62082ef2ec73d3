"""A score by simple rules, for where no judge can be believed. Built in notebook 07.

Knows: six things that can be seen from outside. Does not know: whether a reply is true or helpful; nonsense in good
form earns full points. The points are a choice, made to be argued with: pass others.
"""

from ..corpus import Dialogue, contained, repeated_share, words
from ..corpus.cleaning import role_marker
from ..text import content_words

POINTS = {"stopped": 25, "no marker": 10, "no repetition": 20, "no echo": 15, "on topic": 20, "length": 10}
SHORT, LONG = 12, 80  # words: a reply between the two has a sensible length


def _stopped(question, reply, end):
    """1 where the model closed its turn by the stop token, 0 where it was cut off or went on as the human."""
    return float(end == "stop")


def _no_marker(question, reply, end):
    """0 where the reply ended in a marker, or has one of any chat format in it; else 1."""
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": reply}]
    return float(end != "marker" and not role_marker(Dialogue("reply", messages=said)))


def _no_repetition(question, reply, end):
    """1 where all runs of three words differ, near 0 in a loop."""
    return 1 - repeated_share(reply)


def _no_echo(question, reply, end):
    """1 where no run of three words comes from the question, 0 where all do."""
    return 1 - contained(reply, question)


def _on_topic(question, reply, end):
    """Share of the question's content words that the reply takes up; half of them are enough for 1."""
    asked = content_words(question).keys()
    return min(1.0, 2 * len(asked & content_words(reply).keys()) / len(asked)) if asked else 1.0


def _length(question, reply, end):
    """1 from SHORT to LONG words, less outside in proportion."""
    said = max(len(words(reply)), 1)
    return min(1.0, said / SHORT, LONG / said)


_RULES = {
    "stopped": _stopped,
    "no marker": _no_marker,
    "no repetition": _no_repetition,
    "no echo": _no_echo,
    "on topic": _on_topic,
    "length": _length,
}


def earned(question, reply, end, points=POINTS):
    """{rule: points}, what a reply earns by each rule.

    end    : as in evaluation.Reply. points : what each rule gives at most, {rule: number}; a rule left out gives none.
    An empty reply earns nothing.
    """
    if not words(reply):
        return dict.fromkeys(points, 0.0)
    return {rule: round(most * _RULES[rule](question, reply, end), 1) for rule, most in points.items()}


def total(points):
    """A score from 1 to 100, as a judge gives it, of what `earned` says."""
    return min(100, max(1, round(sum(points.values()))))
