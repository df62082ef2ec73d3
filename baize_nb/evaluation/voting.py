"""A person's blind votes on replies that are there already, beside the judge's verdicts on the same ones.

Knows: recorded replies, the votes of CompareWidget. Does not know: models or widgets. Built in notebook 06.
"""

from ..chat import Conversation
from ..common import CourseError


class Recorded(Conversation):
    """A session for `widgets.CompareWidget` that gives the replies a model has given before.

    name : of the model. prompts, replies : as for `reply`; only prompts of one message can be asked.
    """

    def __init__(self, name, prompts, replies):
        super().__init__(1, 0, 1, 1, 0, 2048, None)
        self.name = name
        found = zip(prompts, replies, strict=True)
        self.replies = {p.question: reply for p, reply in found if len(p.messages) == 1}

    def settings(self):
        """The settings for the record."""
        return {"model": self.name, "recorded": True}

    def _read(self, messages):
        return messages

    def _length(self, messages):
        return 0

    def _write(self, messages):
        """The reply whole, and the sign that it is over, where no limit cut it."""
        reply = self.replies.get(messages[-1]["content"])
        if reply is None:
            raise CourseError("There is no recorded reply to this question. Copy one of the prompts, word for word.")
        yield reply.text, reply.tokens
        if reply.end != "limit":
            yield None, 0


def compared(votes, pairs, verdicts):
    """[(the person's choice, the judge's)] of all votes on these very replies: "a", "b" or "tie". Built in notebook 06.

    votes : of CompareWidget's file; "the same" and "both bad" are ties. Later votes on the same replies count as well.
    """
    judged = {(p.messages[-1]["content"], p.a, p.b): v.winner for p, v in zip(pairs, verdicts, strict=True)}
    found = []
    for vote in votes:
        for a, b in (("left", "right"), ("right", "left")):
            winner = judged.get((vote["question"], vote[f"{a}_reply"], vote[f"{b}_reply"]))
            if winner is not None:
                found.append(({a: "a", b: "b"}.get(vote["choice"], "tie"), winner))
                break
    return found
