"""Scores for all candidates, the best candidate of each question, and these as a corpus to train on.

Knows: who may score, ties, and when even the best is too bad. Does not know: how a score comes about.
Built in notebook 07.
"""

import json
from pathlib import Path
from typing import NamedTuple

from .. import common, corpus
from ..corpus import Dialogue
from . import judging, rules
from .candidates import MADE_BY

FLOOR = 80  # a question whose best has less is left out; by the rules, a reply that was cut off has 75 at most


class Choice(NamedTuple):
    """What is trained on, and what is not. dialogues: [Dialogue]; left_out: [(question's id, its best score)]."""

    dialogues: list
    left_out: list


def score(candidates, path, scorer="auto", judge=None, trial=None):
    """[{"id", "score", "by", …}], a record per candidate, also written to `path`. Built in notebook 07.

    score  : 1 to 100, or None where a judge's answer could not be read.
    scorer : "rules"; "judge", the endpoint `judge`; or "auto": the judge where its `trial` found it credible, else the
             rules. By rules, a record has the `points` of each; by a judge, what it `said`.
    The judge's words are kept in judged.jsonl beside `path`: what it was asked once is not asked again.
    """
    path = Path(path)
    if scorer == "auto":
        scorer = "judge" if trial and trial.credible else "rules"
    if scorer == "judge":
        records = _by_judge(candidates, judge, path.with_name("judged.jsonl"))
        settings = {"scorer": judge.model, "wording": judging.WORDINGS[0]}
    else:
        records, settings = [_by_rules(c) for c in candidates], {"scorer": "rules", "points": rules.POINTS}
    common.write_pieces(path, (json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    read = sum(record["score"] is not None for record in records)
    _describe(path, settings, ["candidates.jsonl"], candidates=len(records), read=read)
    return records


def _by_judge(candidates, judge, path):
    found = judging.judge_scores(judge, [(c.question, c.text) for c in candidates], path)
    pairs = zip(candidates, found, strict=True)
    return [{"id": c.id, "score": score, "by": judge.model, "said": said} for c, (score, said) in pairs]


def _by_rules(candidate):
    points = rules.earned(candidate.question, candidate.text, candidate.end)
    return {"id": candidate.id, "score": rules.total(points), "by": "rules", "points": points}


def _describe(path, settings, made_from, **counts):
    """The manifest of a stage's file; made_from : names of earlier stages' files, which lie beside it."""
    sources = [file for name in made_from if (file := path.with_name(name)).is_file()]
    common.write_manifest(path, MADE_BY, sources=sources, settings=settings, counts=counts)


def choose(asked, candidates, scores, floor=FLOOR):
    """`Choice` of the best candidate of each question; of equal ones the first sampled. Built in notebook 07.

    asked : [Seed]. scores : as `score` gives them. floor : a question whose best candidate has less is left out, and
    so is one none of whose scores could be read.
    """
    found = {record["id"]: record for record in scores if record["score"] is not None}
    groups = {seed.id: [] for seed in asked}
    for candidate in candidates:
        if candidate.id in found:
            groups[candidate.prompt].append(candidate)
    chosen, left_out = [], []
    for seed in asked:
        rivals = groups[seed.id]
        best = max(rivals, key=lambda c: (found[c.id]["score"], -c.number), default=None)
        if best and found[best.id]["score"] >= floor:
            chosen.append(_dialogue(seed, best, len(rivals), found[best.id]["by"]))
        else:
            left_out.append((seed.id, best and found[best.id]["score"]))
    return Choice(chosen, left_out)


def _dialogue(seed, best, rivals, by):
    """A candidate as a dialogue of one turn, in the form of the corpus: `model` and `strategy` say who wrote it."""
    messages = [{"role": "user", "content": seed.text}, {"role": "assistant", "content": best.text}]
    usage = {"completion_tokens": best.tokens}
    strategy = f"best of {rivals} by {by}"
    return Dialogue(seed.id, seed.text, seed.source, seed.license, strategy, best.model, messages, usage, best.end)


def write_chosen(choice, path, floor=FLOOR):
    """Write the chosen dialogues as a corpus, and the manifest beside it; return the path."""
    path = Path(path)
    corpus.write(choice.dialogues, path)
    settings = {"floor": floor, "strategies": sorted({d.strategy for d in choice.dialogues})}
    counts = {"chosen": len(choice.dialogues), "left_out": len(choice.left_out)}
    _describe(path, settings, ["candidates.jsonl", "scores.jsonl"], **counts)
    return path
