"""Seeds: the questions from which dialogues grow. Where they come from, and how a few are drawn from many.

Knows: what a seed is, which two are the same, how to sample, store and read them back.
Does not know: file formats (seed_readers.py), what a teacher makes of a seed. Built in notebook 01;
Baize (arXiv 2304.01196), section 3.
"""

import hashlib
import json
import random
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

from . import common
from .common import CourseError
from .seed_readers import BUNDLED, COLUMNS, find_column, rows, words

__all__ = ["BUNDLED", "COLUMNS", "Seed", "load", "read", "sample", "write"]


@dataclass(frozen=True, slots=True)
class Seed:
    """One question or task to start a dialogue with.

    id        : unique among all seeds; a dialogue carries it on.
    text      : the question itself, never empty.
    source    : the collection it belongs to; sampling is even over sources.
    license   : the terms under which `text` may be used.
    topic     : what it is about, "" where unknown.
    reference : an answer written by a person, "" where there is none.
    """

    id: str
    text: str
    source: str
    license: str
    topic: str = ""
    reference: str = ""


def load(source, *, column=None, name=None, license=None, limit=None):
    """Seeds of one source, each text once (case and spacing aside). What is left out is printed in one line.

    source  : "quora", "stackoverflow", "medquad" or "alpaca" (bundled, written for this course in the manner of
              the real ones); "hub:<namespace/name>" or "hub:<namespace/name>:<configuration>"; or a path: .txt
              (a seed a line), .csv, .jsonl, .parquet, or a folder of MedQuAD's XML.
    column  : the column that holds the text; without it, the first of `COLUMNS` that is there.
    name    : what to call the source; without it, a row's own "source", else the file's or data set's name.
    license : the terms; without it, a row's own "license", else the data set's, else "unknown".
    limit   : for the hub, at most this many rows, drawn at random, the same ones each time.
    Raises CourseError naming file and line where something cannot be read. Built in notebook 01.
    """
    left_out = Counter()
    found, default = rows(source, column, limit, left_out)
    seeds = _gather(found, column, {"source": name, "license": license}, default, left_out)
    label = name or default["source"]
    if left_out:
        print(f"{label}, left out: " + ", ".join(f"{what} ({count})" for what, count in left_out.items()))
    if not seeds:
        raise CourseError(f"{label} holds no seeds. Give it at least one line with a question.")
    return seeds


def sample(seeds, n, seed=0):
    """`n` seeds, as even over the sources as can be: a source too short gives all it has, the others fill up.

    Like dealing cards: shuffle each source, then take one of each, round after round. So every beginning of the
    result is even too, and a larger sample begins with the smaller one (same `seed`). The order of `seeds` does
    not matter. Raises CourseError where there are fewer than `n`. Built in notebook 01.
    """
    if not 0 <= n <= len(seeds):
        raise CourseError(
            f"You asked for {n} seeds of {len(seeds)}. Ask for a number from 0 to {len(seeds)}, or load more sources."
        )
    rng = random.Random(seed)
    piles = {}
    for item in sorted(seeds, key=lambda s: (s.source, s.id, s.text)):
        piles.setdefault(item.source, []).append(item)
    for pile in piles.values():
        rng.shuffle(pile)
    dealt = []
    for cards in zip_longest(*piles.values()):
        cards = [card for card in cards if card is not None]
        rng.shuffle(cards)
        dealt += cards
    return dealt[:n]


def write(seeds, path, made_by="01_seed_sampling", sources=(), **facts):
    """Write `seeds` to `path`, one JSON object a line, and its manifest beside it. Returns the path.

    sources and facts go to `common.write_manifest`. Raises CourseError where two seeds share an id.
    """
    twice = [i for i, count in Counter(s.id for s in seeds).items() if count > 1]
    if twice:
        raise CourseError(f"{len(twice)} ids occur twice, {twice[0]!r} first. Load each source once.")
    lines = (json.dumps({k: v for k, v in asdict(s).items() if v}, ensure_ascii=False) for s in seeds)
    common.write_text(path, "".join(line + "\n" for line in lines))
    counts = dict(sorted(Counter(s.source for s in seeds).items()))
    common.write_manifest(path, made_by, sources, seeds=len(seeds), per_source=counts, **facts)
    return Path(path)


def read(path):
    """Seeds that `write` wrote, in the same order."""
    return load(Path(path))


def _gather(found, column, given, default, left_out):
    kept = {}
    for where, row in found:
        seed = _seed(where, row, column, given, default)
        key = _key(seed.text)
        if key in kept:
            left_out["repeated texts"] += 1
        # Of two the same the first stays, unless only the second has an answer.
        if key not in kept or (seed.reference and not kept[key][1].reference):
            kept[key] = where, seed
    first = {}
    for where, seed in kept.values():
        if seed.id in first:
            raise CourseError(f"{where}: the id {seed.id!r} was used at {first[seed.id]} already. Give each its own.")
        first[seed.id] = where
    return [seed for _, seed in kept.values()]


def _seed(where, row, column, given, default):
    row = {str(k).strip().lower(): v for k, v in row.items()}
    column = find_column(where, row, column)
    text = row[column]
    if not isinstance(text, str) or not text.strip():
        raise CourseError(f"{where}: {column!r} holds no text. Fill it in or delete the line.")
    text = text.strip()
    if column == "instruction" and words(row.get("input")):  # Alpaca keeps the material of a task apart
        text += "\n\n" + words(row["input"])
    source = given["source"] or words(row.get("source")) or default["source"]
    own = "" if given["source"] or not words(row.get("source")) else words(row.get("id"))
    return Seed(
        # An id made of the text stays the same when a file grows, so that a resumed run knows what it has.
        id=own or f"{source}-{hashlib.sha256(_key(text).encode()).hexdigest()[:10]}",
        text=text,
        source=source,
        license=given["license"] or words(row.get("license")) or default["license"],
        topic=words(row.get("topic")),
        reference=words(row.get("reference")),
    )


def _key(text):
    return " ".join(text.casefold().split())
