"""A model as judge: of two replies, in both orders, or of one, by a number from 1 to 100. What its verdicts add up to,
whether it can be believed, and a person's votes on the same replies."""

import math
import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import common, evaluation, moderation, transcript
from .budget import Estimate, estimate_requests
from .chat import Conversation
from .common import CourseError
from .evaluation import Interval, bootstrap
from .teacher import Teacher
from .text import words

# ---- which of two replies is better ----

JUDGE = (
    "You compare two replies, A and B, to the same conversation. The better reply helps the person more: it answers "
    "what was asked, it is true, and it is clear. Being longer is no merit. Where something unethical or dangerous is "
    "asked for, the better reply declines. Answer with one letter only: A, B, or C if neither is better."
)
MAX_TOKENS = 3
_CHOICES = {"A": "first", "B": "second", "C": "tie"}
_LETTER = re.compile(r"\W*(?:reply |answer:? )?([ABC])\b", re.IGNORECASE)


class Pair(NamedTuple):
    """Two replies, a and b, to one prompt. messages: as in a Prompt."""

    id: str
    messages: list
    a: str
    b: str


def pair(prompts, a, b) -> list[Pair]:
    """Pair two lists of Reply to the same prompts."""
    return [Pair(p.id, p.messages, x.text, y.text) for p, x, y in zip(prompts, a, b, strict=True)]


def obvious() -> list[Pair]:
    """Return pairs whose `a` is plainly better than its `b` (empty, off the topic, gibberish): a test for a judge."""
    path = common.DATA / "prompts" / "judge_check.jsonl"
    return list(common.read_jsonl(path, lambda p: Pair(p["id"], p["messages"], p["good"], p["bad"]), "pair"))


def pair_prompt(messages, first: str, second: str) -> list[dict]:
    """Return the judge's prompt as chat messages. What others wrote can open no role in it."""
    who = {"user": "Person", "assistant": "Assistant"}
    talk = "\n".join(f"{who[m['role']]}: {m['content']}" for m in messages)
    parts = (("The conversation", talk), ("Reply A", first), ("Reply B", second))
    told = [f"--- {name}\n{transcript.escape(text) or '(no words)'}" for name, text in parts]
    asked = "\n\n".join([*told, "--- Which reply is better, A, B or C (neither)?"])
    return [{"role": "system", "content": JUDGE}, {"role": "user", "content": asked}]


def read_choice(said: str) -> str:
    """Return what a judge's answer chooses: "first", "second", "tie" or "unreadable"."""
    found = _LETTER.match(said)
    return _CHOICES[found[1].upper()] if found else "unreadable"


async def compare(pairs, teacher: Teacher, path, budget=None, limits=None, concurrency: int = 8) -> list["Verdict"]:
    """Let a judge compare the replies of each pair, once in each order; return verdicts in the order of the pairs.

    Two replies with the same words are a tie, and nobody is asked. path : JSONL; a line has an `id`, a hash of judge,
    prompt and what it was shown. Kept, capped by the budget and raised is what evaluation.ask_once says.
    """
    # llama.cpp is held to a letter by a grammar; other endpoints may not know that word.
    sampling = {"temperature": 0} | (
        {"extra_body": {"grammar": "root ::= [ABC]"}} if teacher.engine is not None else {}
    )

    async def ask(item, asker):
        said = await asker.chat(item.messages, MAX_TOKENS, sampling=sampling)
        about = {"id": item.id, "prompt": item.prompt, "judge": teacher.model, "choice": read_choice(said.text)}
        return {**about, "said": said.text, "usage": list(said.usage)}

    items, what = _questions(pairs, teacher), "questions to the judge"
    options = {"budget": budget, "limits": limits, "concurrency": concurrency}
    lines = await evaluation.ask_once(items, ask, teacher, path, "id", what, **options)
    made_by = "baize_nb.judging.compare (notebook 06)"
    common.write_manifest(path, made_by, judge=teacher.model, prompt=JUDGE, lines=len(lines))
    verdicts = []
    for p in pairs:
        choices = ["tie", "tie"]
        if p.a != p.b:  # a choice of a place is one of a reply, by the order
            for i, (first, second) in enumerate((("a", "b"), ("b", "a"))):
                said = lines[_question(p, teacher, getattr(p, first), getattr(p, second)).id]["choice"]
                choices[i] = {"first": first, "second": second}.get(said, said)
        verdicts.append(Verdict(p.id, *choices, len(words(p.a)) - len(words(p.b))))
    return verdicts


def estimate(pairs, teacher: Teacher, path) -> Estimate:
    """Return what `compare` costs at most, without what stands in the file at `path`."""
    todo = evaluation.missing(_questions(pairs, teacher), path, "id")
    return estimate_requests([(question.messages, MAX_TOKENS) for question in todo], teacher)


class _Question(NamedTuple):
    """One request: a pair in one order."""

    id: str
    prompt: str
    messages: list


def _question(pair, teacher, first, second):
    messages = pair_prompt(pair.messages, first, second)
    return _Question(evaluation.digest([teacher.model, messages]), pair.id, messages)


def _questions(pairs, teacher):
    return [_question(p, teacher, *order) for p in pairs for order in ((p.a, p.b), (p.b, p.a)) if p.a != p.b]


# ---- what verdicts add up to ----

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
    def agrees(self) -> bool:
        """Whether both orders led to the same choice, a tie included."""
        return self.a_first == self.b_first != "unreadable"

    @property
    def winner(self) -> str:
        """ "a" or "b" where both orders say so, else "tie"."""
        return self.a_first if self.agrees else "tie"

    @property
    def place(self) -> str | None:
        """ "first" or "second" where that place was chosen in both orders, whoever stood there; else None."""
        return {("a", "b"): "first", ("b", "a"): "second"}.get((self.a_first, self.b_first))


def tally(verdicts) -> dict:
    """Count verdicts, of which there must be some: {what: number or moderation.Rate}.

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


def win_rate(verdicts) -> Interval:
    """Return the win rate of a, bootstrapped over pairs; a tie counts half."""
    return bootstrap([SCORE[v.winner] for v in verdicts])


def length_controlled(verdicts) -> Interval:
    """Return the win rate of a, had both replies always the same length; bootstrapped over pairs.

    A logistic regression of the verdict on the difference in length, read off at no difference. The idea is that of
    length-controlled AlpacaEval (Dubois et al. 2024), whose model has more terms.
    """
    table = [(v.longer, SCORE[v.winner]) for v in verdicts]
    return bootstrap(table, lambda rows: chance(logistic(rows[:, 0], rows[:, 1])[0]), draws=1000)


def chance(log_odds: float) -> float:
    """Return the share, 0 … 1, that log-odds stand for."""
    return 1 / (1 + math.exp(-log_odds))


def logistic(longer, scores) -> tuple[float, float]:
    """Fit (intercept, slope) of log-odds(win) = intercept + slope · difference in length.

    longer : differences in words. scores : 1 for a win of a, 0 for a loss, ½ for a tie.
    A penalty of weight RIDGE on both numbers (the slope's for a difference of usual size) keeps them finite where one
    side wins all.
    """
    longer, scores = np.asarray(longer, float), np.asarray(scores, float)
    usual = np.sqrt(np.mean(longer**2)) or 1.0
    inputs, weights = np.column_stack([np.ones(len(longer)), longer / usual]), np.zeros(2)
    for _ in range(30):  # Newton's method
        wins = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (scores - wins) - RIDGE * weights
        bend = (inputs * (wins * (1 - wins))[:, None]).T @ inputs + RIDGE * np.eye(2)
        step = np.linalg.solve(bend, slope)
        weights = weights + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1] / usual)


def kappa(labels, others) -> float:
    """Return Cohen's kappa of two judges' labels, in the same order: 1 full agreement, 0 what chance alone would give.

    nan where both always say the same one thing: then there is nothing to tell apart. Source: Cohen (1960).
    """
    n = len(labels)
    same = sum(x == y for x, y in zip(labels, others, strict=True)) / n
    mine, theirs = Counter(labels), Counter(others)
    luck = sum(mine[label] * theirs[label] for label in mine) / n**2
    return (same - luck) / (1 - luck) if luck < 1 else float("nan")


# ---- a person votes on the same replies ----


class Recorded(Conversation):
    """A session for `CompareWidget` that gives the replies a model has given before.

    name : of the model. prompts, replies : as of `evaluation.reply`; only prompts of one message can be asked.
    """

    def __init__(self, name: str, prompts, replies):
        super().__init__(max_new_tokens=1)
        self.name = name
        found = zip(prompts, replies, strict=True)
        self.replies = {p.question: reply for p, reply in found if len(p.messages) == 1}

    def settings(self):
        return {"model": self.name, "recorded": True}

    def _write(self, messages):
        """The reply whole, and the sign that it is over, where no limit cut it."""
        reply = self.replies.get(messages[-1]["content"])
        if reply is None:
            raise CourseError("There is no recorded reply to this question. Copy one of the prompts, word for word.")
        yield reply.text, reply.tokens
        if reply.end != "limit":
            yield None, 0


def compared(votes, pairs, verdicts) -> list[tuple[str, str]]:
    """Return (the person's choice, the judge's) of all votes on these very replies: "a", "b" or "tie".

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


# ---- how good one reply is ----

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


def parse_score(text: str) -> int | None:
    """Return the number from 1 to 100 that a judge named, or None where its answer is anything else.

    Strict on purpose: "85", "Score: 85" and "85/100." are read. In a sentence any number may mean anything.
    """
    match = _NUMBER.fullmatch(text)
    score = int(match[1]) if match else 0
    return score if 1 <= score <= 100 else None


def score_prompt(question: str, reply: str, wording=WORDINGS[0]) -> list[dict]:
    """Return the messages that a judge is sent: the task and two examples with their numbers, then the reply at hand.

    All but the last message is always the same: an endpoint that remembers the beginning of a prompt reads it once.
    """
    task, form = wording
    messages = []
    for asked, said, number in EXAMPLES:
        messages.append({"role": "user", "content": form.format(question=asked, reply=said)})
        messages.append({"role": "assistant", "content": str(number)})
    messages[0]["content"] = f"{task}\n\n{messages[0]['content']}"
    return [*messages, {"role": "user", "content": form.format(question=question, reply=reply)}]


_SCORING = {"temperature": 0, "max_new_tokens": 8, "guard": ""}


async def scores(teacher: Teacher, pairs, path, wording=WORDINGS[0], budget=None) -> list[tuple[int | None, str]]:
    """Let a judge score replies: (score or None, what it said) for each (question, reply), in order.

    path, budget : as of evaluation.reply, which asks; nothing is paid twice.
    """
    replies = await evaluation.reply(teacher, _score_prompts(pairs, [wording]), path, budget=budget, **_SCORING)
    return [(parse_score(said.text), said.text) for said in replies]


def estimate_scores(teacher: Teacher, pairs, path, wordings=WORDINGS[:1]) -> Estimate:
    """Return what `scores` of (question, reply) pairs costs at most, without what stands in the file at `path`."""
    return evaluation.estimate(teacher, _score_prompts(pairs, wordings), path, **_SCORING)


def _score_prompts(pairs, wordings):
    asked = [score_prompt(*pair, wording) for wording in wordings for pair in pairs]
    return [evaluation.Prompt(str(number), "judge", messages) for number, messages in enumerate(asked)]


def probes(dialogues, n: int) -> list[dict]:
    """Return {"question", "kind", "reply"}: for n questions their own answer, and three that nobody would call good.

    The kinds are "own", "another's" (the answer to another question), "scrambled" (its own words in disorder) and
    "echo" (the question again). dialogues : a corpus; answers of one's own training corpus are good enough here.
    """
    dialogues, rng, found = dialogues[:n], random.Random(0), []
    for place, dialogue in enumerate(dialogues):
        question, answer = (message["content"] for message in dialogue.messages[:2])
        others = dialogues[(place + len(dialogues) // 2) % len(dialogues)]
        said = answer.split()
        scrambled = " ".join(rng.sample(said, len(said)))
        replies = {"own": answer, "another's": others.messages[1]["content"], "scrambled": scrambled, "echo": question}
        found += [{"question": question, "kind": kind, "reply": reply} for kind, reply in replies.items()]
    return found


async def try_judge(teacher: Teacher, probes, path, budget=None) -> "Trial":
    """Try a judge on `probes`, each asked in both wordings. path, budget : as of `scores`."""
    pairs = [(probe["question"], probe["reply"]) for probe in probes]
    records = []
    for number, wording in enumerate(WORDINGS):
        found = await scores(teacher, pairs, path, wording, budget)
        for probe, (score, said) in zip(probes, found, strict=True):
            records.append({**probe, "wording": number, "score": score, "said": said})
    return Trial(records)


@dataclass
class Trial:
    """What came of asking a judge about replies of known quality. records: [{question, kind, wording, score, said}]."""

    records: list

    @property
    def read(self) -> float:
        """Share of the judge's answers that were a number from 1 to 100."""
        return sum(record["score"] is not None for record in self.records) / len(self.records)

    @property
    def apart(self) -> float | None:
        """How far two wordings of the same request lie apart, in points of 100 on average; None where none was read."""
        pairs = {}
        for record in self.records:
            pairs.setdefault((record["question"], record["kind"]), []).append(record["score"])
        gaps = [abs(a - b) for a, b in pairs.values() if a is not None and b is not None]
        return sum(gaps) / len(gaps) if gaps else None

    @property
    def right(self) -> Interval:
        """Share of comparisons in which a question's own answer got more than a bad one.

        Equal scores and those that could not be read count half: so much a coin gets right.
        """
        scores = {(r["question"], r["wording"], r["kind"]): r["score"] for r in self.records}
        wins = {}
        for (question, wording, kind), bad in scores.items():
            if kind != "own":
                good = scores[question, wording, "own"]
                unsure = good is None or bad is None or good == bad
                wins.setdefault(question, []).append(0.5 if unsure else float(good > bad))
        return bootstrap([sum(found) / len(found) for found in wins.values()])

    @property
    def credible(self) -> bool:
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
