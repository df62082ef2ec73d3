"""Did tuning help? Losses, replies and judged pairs of two models or more, each number with its interval.

prompts.py    the course's 80 prompts, five kinds
serving.py    a model of this course behind llama.cpp, with a name that tells its weights
replying.py   replies to prompts, kept in a file, never asked for twice
measuring.py  what can be counted in a reply, and the loss on dialogues
intervals.py  how sure a number is: the bootstrap
judging.py    a teacher compares two replies, in both orders; verdicts kept in a file
verdicts.py   what verdicts add up to: wins, ties, position bias, the length-controlled win rate, agreement
voting.py     a person votes on the same replies, without knowing whose they are

Built in notebook 06; notebook 07 compares its models by the same functions. Imports no torch until a loss is measured.
"""

from .intervals import Interval, bootstrap, rate
from .judging import JUDGE, Pair, judge, judging_cost, obvious, pair
from .measuring import distinct, diversity, intervals, loss_difference, losses, measure, token_loss
from .prompts import KINDS, Prompt, prompts
from .replying import Reply, reply, sessions
from .serving import serve
from .verdicts import Verdict, kappa, length_controlled, logistic, tally, win_rate
from .voting import Recorded, compared

__all__ = [
    "JUDGE",
    "KINDS",
    "Interval",
    "Pair",
    "Prompt",
    "Recorded",
    "Reply",
    "Verdict",
    "bootstrap",
    "compared",
    "distinct",
    "diversity",
    "intervals",
    "judge",
    "judging_cost",
    "kappa",
    "length_controlled",
    "logistic",
    "loss_difference",
    "losses",
    "measure",
    "obvious",
    "pair",
    "prompts",
    "rate",
    "reply",
    "serve",
    "sessions",
    "tally",
    "token_loss",
    "win_rate",
]
