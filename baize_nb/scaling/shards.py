"""Seeds cut into files, and which of them are done: what lets a large job stop and go on, shard by shard.

Knows: the files of a job. Does not know: Ray, dialogues, what is done with a shard.

    <folder>/settings.json            what the dialogues are made with; other settings are refused
    <folder>/seeds/00000.parquet      the seeds of shard 00000
    <folder>/journals/00000/          the journal of a shard that is under way: see selfchat/journal.py
    <folder>/dialogues/00000.parquet  its dialogues; is there, whole, once the shard is done, and not before
"""

import json
from dataclasses import asdict
from pathlib import Path

from .. import common, seeds
from ..common import CourseError


def cut(pool, folder, size):
    """Write seeds to `<folder>/seeds/`, `size` a shard, in order; return the shards' names. Built in notebook 08.

    Called again with the same seeds it leaves the files alone; with more behind them it adds shards, if the last one
    was full. Raises CourseError where the folder has other seeds.
    """
    pool, folder = list(pool), Path(folder)
    if not pool:
        raise CourseError("There are no seeds to cut into shards. Load or sample some first.")
    parts = {f"{i // size:05d}": pool[i : i + size] for i in range(0, len(pool), size)}
    if set(names(folder)) - set(parts):
        raise _others(folder)
    for name, part in parts.items():
        path = seeds_path(folder, name)
        if not path.exists():
            _write(part, path)
        elif [s.id for s in seeds.read(path)] != [s.id for s in part]:
            raise _others(folder)
    return list(parts)


def _write(part, path):
    import pyarrow as pa
    from pyarrow import parquet

    with common.atomic_write(path) as temporary:
        parquet.write_table(pa.Table.from_pylist([asdict(seed) for seed in part]), temporary)


def _others(folder):
    return CourseError(
        f"{common.show(folder)} already holds shards of other seeds, or of another size. Name another folder, or "
        "give the seeds and the size it was begun with."
    )


def settle(folder, settings):
    """Note what a job's dialogues are made with. Raises CourseError where it was begun with something else."""
    path = Path(folder) / "settings.json"
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    if not path.exists():
        common.write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise CourseError(
            f"{common.show(path)} says that this job was begun with other settings. Name another folder for the new "
            "ones; two kinds of dialogues are never mixed."
        )


def names(folder):
    """Names of all shards, in order."""
    return sorted(path.stem for path in (Path(folder) / "seeds").glob("*.parquet"))


def left(folder):
    """Names of the shards that are not done: those whose dialogues are not there, whole. Built in notebook 08."""
    return [name for name in names(folder) if not result_path(folder, name).exists()]


def seeds_path(folder, name):
    """Where the seeds of a shard lie."""
    return Path(folder) / "seeds" / f"{name}.parquet"


def work_path(folder, name):
    """The folder in which a shard's dialogues grow."""
    return Path(folder) / "journals" / name


def result_path(folder, name):
    """Where the dialogues of a finished shard lie."""
    return Path(folder) / "dialogues" / f"{name}.parquet"


def results(folder):
    """Paths of the finished shards' dialogues, in order."""
    return [result_path(folder, name) for name in names(folder) if result_path(folder, name).exists()]


def workers(folder, since=0.0):
    """{shard: number of the process that works on it} of the shards that were begun and are not done.

    since : only those begun after that moment (time.time()): a number of an earlier run may be another process's now.
    """
    notes = {name: work_path(folder, name) / "worker" for name in left(folder)}
    fresh = {name: note for name, note in notes.items() if note.exists() and note.stat().st_mtime > since}
    return {name: int(note.read_text()) for name, note in fresh.items()}
