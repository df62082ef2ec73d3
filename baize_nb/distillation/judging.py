"""A score by a judge: a chat model that reads question and reply and names a number from 1 to 100.

Knows: how to ask, how to read the answer strictly, and how to find out whether a judge can be believed.
Does not know: which model judges; any chat endpoint will do. Built in notebook 07.
"""

import random
import re
from dataclasses import dataclass

from .. import evaluation

# (what is asked, once; how question and reply are shown, each time)
WORDINGS = (
    (
        "You see a question and a reply. How well does the reply serve the person who asked: does it answer this "
        "question, is it correct, clear and complete? Each time, give a whole number from 1 (useless) to 100 (could "
        "not be better). Write the number and nothing else.",
        "Question: {question}\n\nReply: {reply}",
    ),
    (
        "Grade what an assistant wrote with a whole number: 1 if it is of no use for what it had been asked, 100 if an "
        "expert would be glad to have written it. Each time, answer with the grade alone.",
        "The assistant wrote: {reply}\n\nIt had been asked: {question}",
    ),
)
# Two answers shown first: with them even a small model names a number, and a large one sees what the ends look like.
EXAMPLES = (
    ("How long do I boil an egg?", "Six minutes for a soft yolk, ten for a hard one.", 90),
    ("Why is my tea bitter?", "Tea is tea is a tea and the", 10),
)
CREDIBLE = 0.8  # share of comparisons that a judge must get right, at the low end of its 95 % interval
_NUMBER = re.compile(r"\s*(?:score|grade)?\s*:?\s*(\d{1,3})(?:\s*/\s*100)?\s*\.?\s*", re.IGNORECASE)


def parse_score(text):
    """The number from 1 to 100 that a judge named, or None where its answer is anything else. Built in notebook 07.

    Strict on purpose: "85", "Score: 85" and "85/100." are read. In a sentence any number may mean anything.
    """
    match = _NUMBER.fullmatch(text)
    score = int(match[1]) if match else 0
    return score if 1 <= score <= 100 else None


def request(question, reply, wording=WORDINGS[0]):
    """The messages that a judge is sent: the task and two examples with their numbers, then the reply in question.

    All but the last message is always the same: an endpoint that remembers the beginning of a prompt reads it once.
    """
    task, form = wording
    messages = []
    for asked, said, number in EXAMPLES:
        messages.append({"role": "user", "content": form.format(question=asked, reply=said)})
        messages.append({"role": "assistant", "content": str(number)})
    messages[0]["content"] = f"{task}\n\n{messages[0]['content']}"
    return [*messages, {"role": "user", "content": form.format(question=question, reply=reply)}]


def judge_scores(endpoint, pairs, path, wording=WORDINGS[0], slots=8):
    """[(score or None, what the judge said)] for [(question, reply)], in order; asked side by side.

    endpoint : a teacher.Teacher. path : its words, one durable line each, see evaluation.reply: nothing is paid twice.
    """
    sessions = evaluation.sessions(endpoint, None, slots, temperature=0, max_new_tokens=8, guard="")
    prompts = [evaluation.Prompt(str(n), "judge", request(*pair, wording)) for n, pair in enumerate(pairs)]
    return [(parse_score(said.text), said.text) for said in evaluation.reply(sessions, prompts, path)]


def probes(dialogues, n):
    """[{"question", "kind", "reply"}]: for n questions their own answer, and three that nobody would call good.

    The kinds are "own", "another's" (the answer to another question), "scrambled" (its own words in disorder) and
    "echo" (the question again). dialogues : a corpus; answers of one's own training corpus are good enough here.
    """
    dialogues, dice, found = dialogues[:n], random.Random(0), []
    for place, dialogue in enumerate(dialogues):
        question, answer = (message["content"] for message in dialogue.messages[:2])
        others = dialogues[(place + len(dialogues) // 2) % len(dialogues)]
        said = answer.split()
        scrambled = " ".join(dice.sample(said, len(said)))
        replies = {"own": answer, "another's": others.messages[1]["content"], "scrambled": scrambled, "echo": question}
        found += [{"question": question, "kind": kind, "reply": reply} for kind, reply in replies.items()]
    return found


def try_judge(endpoint, asked, path):
    """`Trial` of a judge on `probes`, each asked in both wordings. path : as in `judge_scores`."""
    pairs = [(probe["question"], probe["reply"]) for probe in asked]
    records = []
    for number, wording in enumerate(WORDINGS):
        for probe, (score, said) in zip(asked, judge_scores(endpoint, pairs, path, wording), strict=True):
            records.append({**probe, "wording": number, "score": score, "said": said})
    return Trial(records)


@dataclass
class Trial:
    """What came of asking a judge about replies of known quality. records: [{question, kind, wording, score, said}]."""

    records: list

    @property
    def read(self):
        """Share of the judge's answers that were a number from 1 to 100."""
        return sum(record["score"] is not None for record in self.records) / len(self.records)

    @property
    def apart(self):
        """How far two wordings of the same request lie apart, in points of 100 on average; None where none was read."""
        pairs = {}
        for record in self.records:
            pairs.setdefault((record["question"], record["kind"]), []).append(record["score"])
        gaps = [abs(a - b) for a, b in pairs.values() if a is not None and b is not None]
        return sum(gaps) / len(gaps) if gaps else None

    @property
    def right(self):
        """Share of comparisons in which a question's own answer got more than a bad one, as evaluation.Interval.

        Equal scores and those that could not be read count half: so much a coin gets right.
        """
        scores = {(r["question"], r["wording"], r["kind"]): r["score"] for r in self.records}
        wins = {}
        for (question, wording, kind), score in scores.items():
            if kind != "own":
                wins.setdefault(question, []).append(_win(scores[question, wording, "own"], score))
        return evaluation.bootstrap([sum(found) / len(found) for found in wins.values()])

    @property
    def credible(self):
        """Whether the judge is right so often that chance does not explain it: `CREDIBLE` or more at the low end."""
        return self.right.low >= CREDIBLE

    def __str__(self):
        right, apart = self.right, self.apart
        between = "" if apart is None else f"; two wordings lie {apart:.0f} points apart"
        return (
            f"{self.read:.0%} of its answers are a number from 1 to 100{between}; it prefers the right reply in "
            f"{right.value:.0%} of comparisons ({right.low:.0%}–{right.high:.0%}, a coin: 50%). "
            f"To be believed, the low end must reach {CREDIBLE:.0%}: it is {'' if self.credible else 'not '}credible."
        )


def _win(good, bad):
    """1 where the good reply got more, 0 where it got less, 0.5 where that can't be said."""
    if good is None or bad is None or good == bad:
        return 0.5
    return float(good > bad)
