"""A model as judge: of two replies, by a letter in both orders or by how surely it says yes to each; of one, by a
number from 1 to 100. What its verdicts add up to, whether it can be believed, a person's votes on the same replies."""

import math
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from . import common, evaluation, moderation, transcript
from .budget import Estimate, estimate_requests
from .chat import Conversation
from .client import ask_once, digest, missing
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
_LETTER = re.compile(r"\W*(?:reply |answer:? )?([ABC])\b", re.IGNORECASE)
_CHOICES = {"A": "first", "B": "second", "C": "tie"}
# The other way, for small models. Three other wordings did little better than a coin on the obvious pairs.
ASKED = "Does the reply answer the question? Yes or No."
SHOWN = (
    ("How long do I boil an egg?", "Six minutes for a soft yolk, ten for a hard one.", "Yes"),
    ("Why is my tea bitter?", "Tea is tea is a tea and the", "No"),
    ("What is a hammer for?", "The shop opens at nine.", "No"),
    ("Name a fruit.", "An apple is a fruit.", "Yes"),
    ("Where do bees live?", "", "No"),
)


class Pair(NamedTuple):
    """Two replies, a and b, to one prompt. messages: as in a Prompt."""

    id: str
    messages: list
    a: str
    b: str


class Verdict(NamedTuple):
    id: str
    winner: str  # "a", "b" or "tie"
    longer: int = 0  # words of a minus words of b
    log_odds: float | None = None  # of yes to a, minus of yes to b
    same_place: bool = False  # the letters chose a place in both orders, not a reply
    unreadable: int = 0  # answers that were no letter


def pair(prompts, a, b) -> list[Pair]:
    """Pair two lists of Reply to the same prompts."""
    return [Pair(p.id, p.messages, x.text, y.text) for p, x, y in zip(prompts, a, b, strict=True)]


def obvious() -> list[Pair]:
    """Return pairs whose `a` is plainly better than its `b` (empty, off the topic, gibberish): a test for a judge."""
    path = common.DATA / "prompts" / "judge_check.jsonl"
    return list(common.read_jsonl(path, lambda p: Pair(p["id"], p["messages"], p["good"], p["bad"]), "pair"))


def credible(right: moderation.Rate) -> bool:
    """Say whether a judge may be believed that is right on so many obvious pairs: clearly more than a coin."""
    return right.low > 0.5


def _talk(messages):
    who = {"user": "Person", "assistant": "Assistant"}
    return "\n".join(f"{who[m['role']]}: {m['content']}" for m in messages)


def pair_prompt(messages, first: str, second: str) -> list[dict]:
    """Return the prompt for a letter as chat messages. What others wrote can open no role in it."""
    parts = (("The conversation", _talk(messages)), ("Reply A", first), ("Reply B", second))
    told = [f"--- {name}\n{transcript.escape(text) or '(no words)'}" for name, text in parts]
    asked = "\n\n".join([*told, "--- Which reply is better, A, B or C (neither)?"])
    return [{"role": "system", "content": JUDGE}, {"role": "user", "content": asked}]


def yes_prompt(messages, reply: str) -> list[dict]:
    """Return the prompt for yes or no as chat messages: five examples, then the reply at hand."""
    question = messages[0]["content"] if len(messages) == 1 else _talk(messages)
    found = []
    for asked, said, answer in (*SHOWN, (question, reply, "")):
        shown = f"Question: {asked}\nReply: {said or '(no words)'}\n\n{ASKED}"
        found.append({"role": "user", "content": transcript.escape(shown)})
        found.append({"role": "assistant", "content": answer})
    return found[:-1]


class _Question(NamedTuple):
    id: str  # hash of judge and prompt
    pair: str
    messages: list


def _questions(pair, teacher, odds):
    """The two questions about a pair: a shown first, b shown first; or yes to a, yes to b. None about equal replies."""
    if pair.a == pair.b:
        return []
    if odds:
        shown = [yes_prompt(pair.messages, reply) for reply in (pair.a, pair.b)]
    else:
        shown = [pair_prompt(pair.messages, *order) for order in ((pair.a, pair.b), (pair.b, pair.a))]
    return [_Question(digest([teacher.model, messages]), pair.id, messages) for messages in shown]


async def compare(pairs, teacher: Teacher, path, budget=None, odds: bool = False) -> list[Verdict]:
    """Let a judge compare the replies of each pair; return verdicts in the order of the pairs.

    By letters, each pair is shown in both orders, and a win counts where both name the same reply. odds : by the
    log-odds of yes to each reply instead; for endpoints that tell log-probabilities, as llama.cpp does.
    Equal replies are a tie, and nobody is asked. path : JSONL, of many pairs and judges.
    What is kept, capped by the budget and raised: see client.ask_once.
    """
    sampling = {"temperature": 0}
    if odds:
        sampling |= {"logprobs": True, "top_logprobs": 20}
    if teacher.engine is not None:  # held to the answers by a grammar; others may not know the word
        sampling["extra_body"] = {"grammar": 'root ::= "Yes" | "No"' if odds else "root ::= [ABC]"}

    async def ask(item, asker):
        said = await asker.chat(item.messages, MAX_TOKENS, sampling=sampling)
        line = {"id": item.id, "prompt": item.pair, "judge": teacher.model, "said": said.text}
        if odds:  # an answer that is not among the likeliest is less likely than all of them
            top = said.top or {}
            yes, no = (top.get(word, min(top.values(), default=0.0)) for word in ("Yes", "No"))
            line["log_odds"] = yes - no
        else:
            letter = _LETTER.match(said.text)
            line["choice"] = _CHOICES[letter[1].upper()] if letter else "unreadable"
        return line | {"usage": list(said.usage)}

    items = [question for pair in pairs for question in _questions(pair, teacher, odds)]
    lines = await ask_once(items, ask, teacher, path, "id", "questions to the judge", budget=budget)
    made_by = "baize_nb.judging.compare (notebook 06)"
    common.write_manifest(path, made_by, judge=teacher.model, prompt=ASKED if odds else JUDGE, lines=len(lines))
    verdicts = []
    for p in pairs:
        both = [lines[question.id] for question in _questions(p, teacher, odds)]
        longer = len(words(p.a)) - len(words(p.b))
        if odds:
            difference = both[0]["log_odds"] - both[1]["log_odds"] if both else 0.0
            winner = ("tie", "a", "b")[int(np.sign(difference))]
            verdicts.append(Verdict(p.id, winner, longer, difference))
            continue
        choices = tuple(line["choice"] for line in both)
        winner = {("first", "second"): "a", ("second", "first"): "b"}.get(choices, "tie")
        same = choices in (("first", "first"), ("second", "second"))
        verdicts.append(Verdict(p.id, winner, longer, None, same, choices.count("unreadable")))
    return verdicts


def estimate(pairs, teacher: Teacher, path, odds: bool = False) -> Estimate:
    """Return what `compare` costs at most, without what stands in the file at `path`."""
    items = [question for pair in pairs for question in _questions(pair, teacher, odds)]
    return estimate_requests([(item.messages, MAX_TOKENS) for item in missing(items, path, "id")], teacher)


SCORE = {"a": 1.0, "tie": 0.5, "b": 0.0}


def tally(verdicts) -> dict:
    """Count verdicts, of which there must be some: {what: number or moderation.Rate}; see Verdict."""
    won, n = Counter(v.winner for v in verdicts), len(verdicts)
    return {
        "wins": moderation.wilson(won["a"], n),
        "losses": won["b"],
        "ties": won["tie"],
        "same place": moderation.wilson(sum(v.same_place for v in verdicts), n),
        "unreadable": sum(v.unreadable for v in verdicts),
    }


def calibration(verdicts, groups: int = 3) -> list[tuple[float, moderation.Rate]]:
    """Return (mean confidence, how many were right) of groups of verdicts on pairs whose `a` is better, surest last.

    The confidence, from one half to 1, is the log-odds as a probability of the likelier reply.
    """
    ordered = sorted(verdicts, key=lambda v: abs(v.log_odds))
    found = []
    for part in np.array_split(np.arange(len(ordered)), groups):
        members = [ordered[i] for i in part]
        sure = np.mean([1 / (1 + math.exp(-abs(v.log_odds))) for v in members])
        found.append((float(sure), moderation.wilson(sum(v.log_odds > 0 for v in members), len(members))))
    return found


def win_rate(verdicts) -> Interval:
    """Return the win rate of a, bootstrapped over pairs; a tie counts half."""
    return bootstrap([SCORE[v.winner] for v in verdicts])


def length_controlled(verdicts) -> Interval:
    """Return the win rate of a at equal length, bootstrapped over pairs: AlpacaEval's idea (Dubois et al. 2024)."""

    def at_zero(rows):
        return 1 / (1 + math.exp(-logistic(rows[:, 0], rows[:, 1])[0]))

    return bootstrap([(v.longer, SCORE[v.winner]) for v in verdicts], at_zero, draws=1000)


def logistic(longer, scores) -> tuple[float, float]:
    """Fit (intercept, slope) of log-odds(win) = intercept + slope · difference in length.

    longer : differences in words. scores : 1 for a win of a, 0 for a loss, ½ for a tie.
    """
    ridge = 0.1  # a penalty that keeps both numbers finite where one side wins all; hardly felt otherwise
    longer, scores = np.asarray(longer, float), np.asarray(scores, float)
    usual = np.sqrt(np.mean(longer**2)) or 1.0  # a difference of usual size, so that the penalty knows no unit
    inputs, weights = np.column_stack([np.ones(len(longer)), longer / usual]), np.zeros(2)
    for _ in range(15):  # Newton's method
        wins = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (scores - wins) - ridge * weights
        bend = (inputs * (wins * (1 - wins))[:, None]).T @ inputs + ridge * np.eye(2)
        weights += np.clip(np.linalg.solve(bend, slope), -2, 2)
    return float(weights[0]), float(weights[1] / usual)


def kappa(labels, others) -> float:
    """Return Cohen's kappa (1960) of two judges' labels, in the same order; nan where both only ever say one thing."""
    n = len(labels)
    same = sum(x == y for x, y in zip(labels, others, strict=True)) / n
    mine, theirs = Counter(labels), Counter(others)
    luck = sum(mine[label] * theirs[label] for label in mine) / n**2
    return (same - luck) / (1 - luck) if luck < 1 else float("nan")


class Recorded(Conversation):
    """A session for `CompareWidget` that gives a model's recorded replies to those prompts that are one message."""

    def __init__(self, name: str, prompts, replies):
        super().__init__(max_new_tokens=1)
        self.name = name
        found = zip(prompts, replies, strict=True)
        self.replies = {p.question: reply for p, reply in found if len(p.messages) == 1}

    def settings(self):
        return {"model": self.name, "recorded": True}

    def _write(self, messages):
        reply = self.replies.get(messages[-1]["content"])
        if reply is None:
            raise CourseError("There is no recorded reply to this question. Copy one of the prompts, word for word.")
        yield reply.text, reply.tokens
        if reply.end != "limit":
            yield None, 0


def compared(votes, pairs, verdicts) -> list[tuple[str, str]]:
    """Return (the person's choice, the judge's), "a", "b" or "tie", of the votes in CompareWidget's file on `pairs`."""
    judged = {(p.messages[-1]["content"], p.a, p.b): v.winner for p, v in zip(pairs, verdicts, strict=True)}
    found = []
    for vote in votes:
        for a, b in (("left", "right"), ("right", "left")):
            winner = judged.get((vote["question"], vote[f"{a}_reply"], vote[f"{b}_reply"]))
            if winner:
                found.append(({a: "a", b: "b"}.get(vote["choice"], "tie"), winner))
    return found


# ---- how good one reply is ----

SCORING = (
    "You see a question and a reply. How well does the reply serve the person who asked: does it answer this "
    "question, is it correct, clear and complete? Each time, give a whole number from 1 (useless) to 100 (could "
    "not be better). Write the number and nothing else."
)
# Two answers shown first: with them even a small model names a number, and a large one sees what the ends look like.
EXAMPLES = (
    ("How long do I boil an egg?", "Six minutes for a soft yolk, ten for a hard one.", 90),
    ("Why is my tea bitter?", "Tea is tea is a tea and the", 10),
)
_NUMBER = re.compile(r"\s*(?:score|grade)?\s*:?\s*(\d{1,3})(?:\s*/\s*100)?\s*\.?\s*", re.IGNORECASE)
_SETTINGS = {"temperature": 0, "max_new_tokens": 8, "guard": ""}


def parse_score(text: str) -> int | None:
    """Return the number from 1 to 100 that a judge named, or None: in a sentence any number may mean anything."""
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match and 1 <= int(match[1]) <= 100 else None


def score_prompt(question: str, reply: str) -> list[dict]:
    """Return the messages that a judge is sent: the task, two examples with their numbers, the reply at hand."""
    messages = []
    for asked, said, number in (*EXAMPLES, (question, reply, "")):
        messages.append({"role": "user", "content": f"Question: {asked}\n\nReply: {said}"})
        messages.append({"role": "assistant", "content": str(number)})
    messages[0]["content"] = f"{SCORING}\n\n{messages[0]['content']}"
    return messages[:-1]


def _score_prompts(pairs):
    return [evaluation.Prompt(str(n), "judge", score_prompt(*pair)) for n, pair in enumerate(pairs)]


async def scores(teacher: Teacher, pairs, path, budget=None) -> list[tuple[int | None, str]]:
    """Let a judge score replies, as evaluation.reply asks: (score or None, what it said) for each (question, reply)."""
    replies = await evaluation.reply(teacher, _score_prompts(pairs), path, budget=budget, **_SETTINGS)
    return [(parse_score(said.text), said.text) for said in replies]


def estimate_scores(teacher: Teacher, pairs, path) -> Estimate:
    """Return what `scores` of (question, reply) pairs costs at most, without what stands in the file at `path`."""
    return evaluation.estimate(teacher, _score_prompts(pairs), path, **_SETTINGS)
