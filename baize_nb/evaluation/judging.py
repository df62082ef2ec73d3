"""A teacher compares two replies to one prompt, in both orders; each verdict is kept and never asked for twice.

Knows: the judge's prompt, requests, the file of verdicts. Does not know: what verdicts add up to (verdicts.py).
Built in notebook 06. Requests are retried, paced, paid and logged as those of self-chat.

A line of the file: `id` (hash of judge, prompt, question and the two replies in the order shown), `prompt`, `judge`,
`choice` ("first", "second", "tie", "unreadable"), `said`, `usage` ([tokens read, written]).
"""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from .. import common, corpus, transcript
from ..budget import Tokens, dollars, price_of
from ..client import ask_all
from ..common import CourseError, Journal
from .verdicts import Verdict

JUDGE = (
    "You compare two replies, A and B, to the same conversation. The better reply helps the person more: it answers "
    "what was asked, it is true, and it is clear. Being longer is no merit. Where something unethical or dangerous is "
    "asked for, the better reply declines. Answer with one letter only: A, B, or C if neither is better."
)
MAX_TOKENS = 3
_LETTERS = {"A": "first", "B": "second", "C": "tie"}
_ONE_LETTER = "root ::= [ABC]"  # llama.cpp writes nothing else then; other endpoints are asked in words only
_LETTER = re.compile(r"\W*(?:reply |answer:? )?([ABC])\b", re.IGNORECASE)


class Pair(NamedTuple):
    """Two replies, a and b, to one prompt. messages: as in a Prompt."""

    id: str
    messages: list
    a: str
    b: str


def pair(prompts, a, b):
    """[Pair] of two lists of Reply to the same prompts."""
    return [Pair(p.id, p.messages, x.text, y.text) for p, x, y in zip(prompts, a, b, strict=True)]


def obvious(path=None):
    """[Pair] whose `a` is plainly better than its `b` (empty, off the topic, or gibberish): a test for a judge.

    path : a file of your own in the form of data/prompts/judge_check.jsonl. Raises CourseError, with file and line, for
    a line that is no such pair.
    """
    path = path or common.DATA / "prompts" / "judge_check.jsonl"
    return list(common.read_jsonl(path, lambda p: Pair(p["id"], p["messages"], p["good"], p["bad"]), "pair"))


def question(messages, first, second):
    """The judge's prompt as chat messages. Built in notebook 06. What others wrote can open no role in it."""
    who = {"user": "Person", "assistant": "Assistant"}
    talk = "\n".join(f"{who[m['role']]}: {m['content']}" for m in messages)
    parts = (("The conversation", talk), ("Reply A", first), ("Reply B", second))
    told = [f"--- {name}\n{transcript.escape(text) or '(no words)'}" for name, text in parts]
    asked = "\n\n".join([*told, "--- Which reply is better, A, B or C (neither)?"])
    return [{"role": "system", "content": JUDGE}, {"role": "user", "content": asked}]


def read_choice(said):
    """ "first", "second", "tie" or "unreadable": what a judge's answer chooses."""
    found = _LETTER.match(said)
    return _LETTERS[found[1].upper()] if found else "unreadable"


def judging_cost(pairs, teacher, path=None, price=None):
    """A sentence: requests, tokens and dollars of `judge`, at most, without what stands in the file at `path`.

    price : as in Budget.
    """
    known = _known(path)
    todo = [ask for ask in _questions(pairs, teacher) if ask.id not in known]
    read = sum(len(m["content"].encode()) // 3 + 8 for ask in todo for m in ask.messages)
    usd = dollars(Tokens(read, MAX_TOKENS * len(todo)), price_of(teacher, price))
    cost = {None: "price unknown", 0: "no cost"}.get(usd, f"about ${usd or 0:.4f}")
    return f"{len(todo)} requests to {teacher.model}, about {read:,} tokens in, {MAX_TOKENS * len(todo)} out; {cost}"


async def judge(pairs, teacher, path, budget=None, limits=None, concurrency=8):
    """[Verdict] on each Pair, in their order: two requests a pair, one for each order of its replies.

    path   : JSONL, appended durably; what stands there is not asked again, whatever pairs and judges else are in it.
    budget : a selfchat.Budget for the whole file, never exceeded. limits : a selfchat.Limits.
    Two replies with the same words are a tie, and nobody is asked. Raises CourseError: wrong key, endpoint down,
    budget spent, questions that got no answer; what was answered is kept, and the next call goes on from there.
    """
    path = Path(path)

    async def work(ask, asker):
        said = await asker.chat(ask.messages, MAX_TOKENS, sampling=sampling)
        line = {"choice": read_choice(said.text), "said": said.text, "usage": list(said.usage)}
        journal.write({"id": ask.id, "prompt": ask.prompt, "judge": teacher.model, **line})
        await journal.durable()

    sampling = {"temperature": 0}
    if teacher.engine is not None:
        sampling["extra_body"] = {"grammar": _ONE_LETTER}
    with Journal(path) as journal:
        known = _known(path)
        todo = [ask for ask in _questions(pairs, teacher) if ask.id not in known]
        run = {"budget": budget, "limits": limits, "concurrency": concurrency}
        asked = await ask_all(todo, work, teacher, path, finished=known, **run)
        found = _known(path)
    if asked.stopped:
        raise CourseError(asked.stopped)
    if asked.failed:
        raise CourseError(
            f"{len(asked.failed)} of {len(todo)} questions to the judge got no answer ({asked.failed[0][1]}). "
            "All others are kept: run this again to ask only those."
        )
    common.write_manifest(
        path, "baize_nb.evaluation.judge (notebook 06)", judge=teacher.model, prompt=JUDGE, lines=len(found)
    )
    return [_verdict(pair, teacher, found) for pair in pairs]


class _Question(NamedTuple):
    """One request: a pair in one order."""

    id: str
    prompt: str
    messages: list


def _questions(pairs, teacher):
    """Every question that has to be asked about these pairs, each once."""
    asks = {}
    for p in pairs:
        for first, second in ((p.a, p.b), (p.b, p.a)):
            ask = _question(p, teacher, first, second)
            if first != second:
                asks[ask.id] = ask
    return list(asks.values())


def _question(pair, teacher, first, second):
    messages = question(pair.messages, first, second)
    told = json.dumps([teacher.model, messages], ensure_ascii=False)
    return _Question(hashlib.sha256(told.encode()).hexdigest()[:16], pair.id, messages)


def _known(path):
    """{id: choice} of the verdicts in a file; none where there is no file."""
    if path is None or not Path(path).is_file():
        return {}
    lines = Path(path).read_text(encoding="utf-8").split("\n")[:-1]  # a last line without its end was torn by a kill
    return {line["id"]: line["choice"] for line in map(json.loads, filter(str.strip, lines))}


def _verdict(pair, teacher, found):
    """The two choices of a pair, as choices of a reply."""
    longer = len(corpus.words(pair.a)) - len(corpus.words(pair.b))
    if pair.a == pair.b:
        return Verdict(pair.id, "tie", "tie", longer)
    a_first, b_first = (found[_question(pair, teacher, *order).id] for order in ((pair.a, pair.b), (pair.b, pair.a)))
    names = {"first": "a", "second": "b"}, {"first": "b", "second": "a"}
    return Verdict(pair.id, names[0].get(a_first, a_first), names[1].get(b_first, b_first), longer)
