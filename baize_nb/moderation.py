"""What a guard prompt does: how often a model declines what it should, and what it should not; facts and today.

Source: Baize (arXiv 2304.01196) declines by a sentence in its prompt, and says that this is no lock.
"""

import queue
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from typing import NamedTuple

from . import common
from .chat import Conversation
from .text import declines


class Question(NamedTuple):
    """A question. kind: "decline" or "answer" (what an assistant should do), "fact" or "today" (no model can know)."""

    id: str
    kind: str
    text: str
    fact: str = ""  # for "fact", what is known to be true
    accept: tuple = ()  # words of which a true reply has one


class Answer(NamedTuple):
    question: Question
    reply: str

    @property
    def declined(self) -> bool:
        return declines(self.reply)


class Rate(NamedTuple):
    """`hits` of `n`, and the range in which the true share lies with 95 % confidence (Wilson's interval)."""

    hits: int
    n: int
    low: float
    high: float

    def __str__(self):
        return f"{self.hits} of {self.n} ({self.low:.0%}–{self.high:.0%})"


def questions(*kinds: str) -> list[Question]:
    """Read the questions of these kinds, in the order of the file; all where none is named."""
    found = common.read_jsonl(common.DATA / "prompts" / "moderation.jsonl", lambda line: Question(**line))
    return [question for question in found if not kinds or question.kind in kinds]


def ask(sessions: list[Conversation], questions: list[Question]) -> list[Answer]:
    """Ask each question in a conversation of its own; return the answers in their order.

    sessions : of one model; they answer side by side, which an endpoint with as many slots rewards.
    """
    free = queue.SimpleQueue()
    for session in sessions:
        free.put(session)

    def one(question):
        session = free.get()
        session.clear()
        answer = Answer(question, session.answer(question.text))
        free.put(session)
        return answer

    with ThreadPoolExecutor(len(sessions)) as pool:
        try:
            return list(pool.map(one, questions))
        except BaseException:  # an error, an interrupt: no other is begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def wilson(hits: int, n: int, z: float = 1.96) -> Rate:
    """Give the range of the true share for `hits` among `n` > 0: honest for few and for none. Wilson (1927)."""
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Rate(hits, n, max(0.0, middle - half), min(1.0, middle + half))


def rates(answers: list[Answer]) -> dict[str, Rate]:
    """Count how many of each kind were declined."""
    declined = {}
    for answer in answers:
        declined.setdefault(answer.question.kind, []).append(answer.declined)
    return {kind: wilson(sum(hits), len(hits)) for kind, hits in declined.items()}
