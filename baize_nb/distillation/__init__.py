"""Self-distillation with feedback: a model answers several times, and the best answers train it further.

candidates.py questions of the training corpus, and several replies to each
rules.py      a score from 1 to 100 by simple rules
judging.py    a score from 1 to 100 by a judge, and whether that judge can be believed
choosing.py   scores for all candidates, and the best of each question as a corpus

Built in notebook 07. Source: Baize (arXiv 2304.01196) describes it for its later versions; its code was never released.
"""

from .candidates import Candidate, questions, sample
from .choosing import FLOOR, Choice, choose, score, write_chosen
from .judging import Trial, parse_score, probes, try_judge
from .rules import POINTS, earned, total

__all__ = [
    "FLOOR",
    "POINTS",
    "Candidate",
    "Choice",
    "Trial",
    "choose",
    "earned",
    "parse_score",
    "probes",
    "questions",
    "sample",
    "score",
    "total",
    "try_judge",
    "write_chosen",
]
