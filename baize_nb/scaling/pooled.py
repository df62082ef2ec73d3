"""Statistics and cleaning of a corpus in many files: the functions of `corpus`, called on parts by Ray Data, with the
results that one machine has. Between machines travel sketches (256 bytes a dialogue) and likely copies."""

import json
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np

from .. import common, corpus, scaling
from ..common import CourseError

PARTS = 16  # into which the bands are dealt: each has to fit into the memory of one worker
_FILE = 1 << 32  # a dialogue's place is its file's number times this, plus its place in the file: one order for all


def merge(parts) -> corpus.Measures:
    """Return one `Measures` of several, in their order: everything in it is a sum."""
    whole = corpus.Measures(all(part.with_tokens for part in parts))
    for part in parts:
        for field in fields(part):
            mine, more = getattr(whole, field.name), getattr(part, field.name)
            if isinstance(more, Counter):
                mine.update(more)
            elif isinstance(more, dict):
                for key, counts in more.items():
                    mine[key].update(counts)
    return whole


def clean(paths, out, rules=corpus.RULES) -> dict[str, int]:
    """Do `corpus.clean` to many files as one corpus, in their order; return {rule: dialogues removed}, busiest first.

    out   : folder for `<name>.parquet`, what is kept of each file, and `<name>.removed.jsonl`, what is not, and why.
    rules : as for `corpus.clean`, which decides here as well: about each dialogue in its file, then about copies.
    """
    out = Path(out).absolute()

    def look(row):
        """A row for each dialogue: the rule that removes it and why, or "" and its sketch."""
        placed = list(_dialogues(row))
        cleaned = corpus.clean([d for _, d in placed], rules, duplicates=None)
        against = {id(r.dialogue): (r.rule, r.why) for r in cleaned.removed}
        sketches = iter(corpus.sketch(cleaned.kept).view("int64").tolist())
        rows = []
        for place, dialogue in placed:
            rule, why = against.get(id(dialogue), ("", ""))
            rows.append({"place": place, "rule": rule, "why": why, "bands": [] if rule else next(sketches)})
        return rows

    def deal(batch):
        """A row for each band of each sketch, dealt by the band: equal ones get into the same part."""
        there = [i for i, bands in enumerate(batch["bands"]) if len(bands)]
        bands = np.array([batch["bands"][i] for i in there], np.int64).reshape(len(there), -1)
        places = np.repeat(batch["place"][there], bands.shape[1])
        return {"part": bands.ravel() % PARTS, "band": bands.ravel(), "place": places}

    def meet(part):
        """The dialogues that have a band in common with another."""
        _, number, counts = np.unique(part["band"], return_inverse=True, return_counts=True)
        return {"place": np.unique(part["place"][counts[number] > 1])}

    def fetch(row):
        return [{"place": place, "dialogue": d.to_json()} for place, d in _dialogues(row) if place in alike]

    def write(row):
        kept, aside, stem = [], [], Path(row["path"]).stem
        for place, dialogue in _dialogues(row):
            if place in removed:
                aside.append(corpus.Removed(dialogue, *removed[place]))
            else:
                kept.append(dialogue)
        corpus.write_removed(aside, out / f"{stem}.removed.jsonl")
        corpus.write_parquet(kept, out / f"{stem}.parquet")
        return {"file": row["file"]}

    with scaling.telling_faults():
        files = _files(paths)
        looked = files.flat_map(look, num_cpus=1).materialize()
        removed = {row["place"]: (row["rule"], row["why"]) for row in looked.iter_rows() if row["rule"]}
        dealt = looked.map_batches(deal, batch_format="numpy").groupby("part", num_partitions=PARTS)
        alike = {row["place"] for row in dealt.map_groups(meet, batch_format="numpy").take_all()}
        likely = {row["place"]: row["dialogue"] for row in files.flat_map(fetch, num_cpus=1).take_all()}
        # In the order of the corpus. Whoever is compared there is among them, so the same copies are found.
        placed = {place: corpus.Dialogue.from_record(json.loads(likely[place])) for place in sorted(likely)}
        places = {id(dialogue): place for place, dialogue in placed.items()}
        for copy in corpus.clean(list(placed.values()), ()).removed:
            removed[places[id(copy.dialogue)]] = copy.rule, copy.why
        files.map(write, num_cpus=1).materialize()
    return dict(Counter(rule for rule, _ in removed.values()).most_common())


def _files(paths):
    """A dataset with a row and a block for each file."""
    ray, paths = scaling.need_ray(), [Path(path).absolute() for path in paths]
    if len({path.stem for path in paths}) < len(paths) or not paths:
        raise CourseError("Give one file or more, each with a name of its own: results are named after them.")
    rows = [{"file": number, "path": str(path)} for number, path in enumerate(paths)]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def _dialogues(row):
    """(place, Dialogue) of each dialogue of a file."""
    stream = corpus.stream(row["path"], aside=False)
    yield from ((row["file"] * _FILE + number, dialogue) for number, dialogue in enumerate(stream))
    if stream.unreadable:
        raise CourseError(
            f"{common.show(row['path'])}: {len(stream.unreadable)} records can't be read, the first at "
            f"{stream.unreadable[0]}. Read that file with corpus.load, which sets them aside."
        )
