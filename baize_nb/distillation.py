"""Self-distillation with feedback: a model answers several times, and the best answers train it further.

Source: Baize (arXiv 2304.01196) describes it for its later versions; its code was never released.
"""

import json
from pathlib import Path
from typing import NamedTuple

from . import common, evaluation, judging, seeds
from .corpus import Dialogue
from .corpus.cleaning import role_marker
from .seeds import Seed
from .teacher import Teacher
from .text import contained, content_words, repeated_share, words

MADE_BY = "baize_nb.distillation (notebook 07)"


class Candidate(NamedTuple):
    """One sampled reply. id : "quora-0012/3", prompt and number; the number is also its random seed."""

    id: str
    prompt: str
    question: str
    number: int
    text: str
    end: str
    tokens: int
    model: str


def questions(dialogues, n: int, avoid=()) -> list[Seed]:
    """Return at most n different first questions of a corpus, spread evenly over its sources; deterministic.

    avoid : texts that must not be among them, such as evaluation prompts; case and punctuation make no difference.
    """
    taken, found = {tuple(words(text)) for text in avoid}, []
    for dialogue in dialogues:
        text = dialogue.messages[0]["content"]
        if tuple(words(text)) not in taken:
            taken.add(tuple(words(text)))
            found.append(Seed(dialogue.id, text, dialogue.source, dialogue.license))
    return seeds.sample(found, min(n, len(found)))


async def sample(teacher: Teacher, tokenizer, asked: list[Seed], times: int, path, sources=(), **settings) -> list:
    """Let a tuned model answer each question `times` times, with the random seeds 0, 1, 2 …; return Candidates.

    path, settings : as of evaluation.reply, which asks; nothing is sampled twice. sources : for the manifest.
    """
    prompts = [evaluation.Prompt(s.id, "training", [{"role": "user", "content": s.text}]) for s in asked]
    settings = {"temperature": 1.0, "top_p": 0.95, **settings}  # as the paper samples
    found = []
    for number in range(times):
        replies = await evaluation.reply(teacher, prompts, path, tokenizer, seed=number, **settings)
        for seed, said in zip(asked, replies, strict=True):
            about = (f"{seed.id}/{number}", seed.id, seed.text, number)
            found.append(Candidate(*about, *said[1:], teacher.model))
    counts = {"questions": len(asked), "candidates": len(found)}
    settings |= {"model": teacher.model, "seed": f"0 to {times - 1}"}
    common.write_manifest(path, MADE_BY, sources=sources, settings=settings, counts=counts)
    return found


# What can be seen from outside; nonsense in good form earns all of it. The points are a choice, made to be argued with.
POINTS = {"stopped": 25, "no marker": 10, "no repetition": 20, "no echo": 15, "on topic": 20, "length": 10}
SHORT, LONG = 12, 80  # words: a reply between the two has a sensible length


def earned(question: str, reply: str, end: str) -> dict[str, float]:
    """Return {rule: points}, what a reply earns by each rule. end: as in evaluation.Reply."""
    if not words(reply):
        return dict.fromkeys(POINTS, 0.0)
    as_dialogue = [{"role": "user", "content": "?"}, {"role": "assistant", "content": reply}]
    asked, said = content_words(question).keys(), len(words(reply))
    shares = {  # 0 … 1
        "stopped": end == "stop",  # not cut off, and no turn of the human's begun
        "no marker": end != "marker" and not role_marker(Dialogue("reply", messages=as_dialogue)),  # of any chat format
        "no repetition": 1 - repeated_share(reply),  # near 0 in a loop
        "no echo": 1 - contained(reply, question),  # 0 where all runs of three words come from the question
        # Half of the question's content words are enough.
        "on topic": min(1.0, 2 * len(asked & content_words(reply).keys()) / len(asked)) if asked else 1.0,
        "length": min(1.0, said / SHORT, LONG / said),
    }
    return {rule: round(most * shares[rule], 1) for rule, most in POINTS.items()}


def total(points: dict[str, float]) -> int:
    """Return a score from 1 to 100, as a judge gives it, of what `earned` says."""
    return min(100, max(1, round(sum(points.values()))))


async def score(candidates, path, judge: Teacher | None = None, budget=None) -> list[dict]:
    """Score all candidates: {"id", "score", "by", …}, a record for each, also written to `path`.

    score : 1 to 100, or None where a judge's answer could not be read.
    judge : None: by the rules, and a record has the `points` of each; else what this endpoint `said`, which is kept in
            judged.jsonl beside `path` and not asked again. budget : a Budget for that file.
    """
    path = Path(path)
    if judge:
        pairs = [(c.question, c.text) for c in candidates]
        found = await judging.scores(judge, pairs, path.with_name("judged.jsonl"), budget)
        about = [{"score": score, "by": judge.model, "said": said} for score, said in found]
        settings = {"scorer": judge.model, "wording": judging.SCORING}
    else:
        points = [earned(c.question, c.text, c.end) for c in candidates]
        about = [{"score": total(found), "by": "rules", "points": found} for found in points]
        settings = {"scorer": "rules", "points": POINTS}
    records = [{"id": c.id, **told} for c, told in zip(candidates, about, strict=True)]
    common.write_text(path, (json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    sources = [file for file in [path.with_name("candidates.jsonl")] if file.is_file()]
    common.write_manifest(path, MADE_BY, sources=sources, settings=settings, counts={"candidates": len(records)})
    return records


def best_of(asked: list[Seed], candidates, scores, floor: float) -> tuple[list[Dialogue], list[tuple]]:
    """Return the best candidate of each question (of equal ones the first) as a Dialogue, and what is left out.

    scores : as `score` gives them. Left out is a question whose best score is below `floor` or None: (its id, score).
    """
    found = {record["id"]: record for record in scores if record["score"] is not None}
    chosen, left_out = [], []
    for seed in asked:
        rivals = [c for c in candidates if c.prompt == seed.id and c.id in found]
        best = max(rivals, key=lambda c: (found[c.id]["score"], -c.number), default=None)
        if best is None or found[best.id]["score"] < floor:
            left_out.append((seed.id, best and found[best.id]["score"]))
            continue
        messages = [{"role": "user", "content": seed.text}, {"role": "assistant", "content": best.text}]
        strategy = f"best of {len(rivals)} by {found[best.id]['by']}"
        about = (seed.id, seed.text, seed.source, seed.license, strategy, best.model)
        chosen.append(Dialogue(*about, messages, {"completion_tokens": best.tokens}, best.end))
    return chosen, left_out
