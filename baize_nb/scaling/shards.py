"""Seeds cut into files, and self-chat shard by shard on a Ray cluster: a large job that can stop and go on.

    <folder>/settings.json            what the dialogues are made with; other settings are refused
    <folder>/seeds/00000.parquet      the seeds of shard 00000
    <folder>/journals/00000/          where its dialogues grow: what `selfchat.collect` writes
    <folder>/dialogues/00000.parquet  its dialogues; is there, whole, once the shard is done, and not before

A worker may die at any moment. Ray gives its shard to another worker, whose `collect` finds the journal and goes on.
Only what was under way in that moment is asked again, at most a request for each dialogue the worker had in flight.
"""

import asyncio
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

from .. import common, corpus, scaling, seeds, selfchat
from ..common import CourseError
from ..teacher import Teacher


def cut(pool, folder, size: int) -> list[str]:
    """Write seeds to `<folder>/seeds/`, `size` a shard, in order; return the shards' names.

    Called again with the same seeds it leaves the files alone; with more behind them it adds shards, if the last one
    was full. Raises CourseError where the folder has other seeds.
    """
    import pyarrow as pa
    from pyarrow import parquet

    pool = list(pool)
    if not pool:
        raise CourseError("There are no seeds to cut into shards. Load or sample some first.")
    parts = {f"{i // size:05d}": pool[i : i + size] for i in range(0, len(pool), size)}
    there = names(folder)
    for name in there:
        before = [seed.id for seed in seeds.read(seeds_path(folder, name))]
        if before != [seed.id for seed in parts.get(name, ())]:
            raise CourseError(f"{common.show(folder)} has shards of other seeds, or of another size. Name another.")
    for name in [name for name in parts if name not in there]:
        with common.atomic_write(seeds_path(folder, name)) as temporary:
            parquet.write_table(pa.Table.from_pylist([asdict(seed) for seed in parts[name]]), temporary)
    return list(parts)


def names(folder) -> list[str]:
    """Return the names of all shards, in order."""
    return sorted(path.stem for path in (Path(folder) / "seeds").glob("*.parquet"))


def left(folder) -> list[str]:
    """Return the names of the shards whose dialogues are not there, whole."""
    return [name for name in names(folder) if not result_path(folder, name).exists()]


def results(folder) -> list[Path]:
    """Return the paths of the finished shards' dialogues, in order."""
    paths = [result_path(folder, name) for name in names(folder)]
    return [path for path in paths if path.exists()]


def seeds_path(folder, name: str) -> Path:
    """Return where the seeds of a shard lie."""
    return Path(folder) / "seeds" / f"{name}.parquet"


def work_path(folder, name: str) -> Path:
    """Return the folder in which a shard's dialogues grow."""
    return Path(folder) / "journals" / name


def result_path(folder, name: str) -> Path:
    """Return where the dialogues of a finished shard lie."""
    return Path(folder) / "dialogues" / f"{name}.parquet"


def workers(folder, since: float) -> dict[str, int]:
    """Return {shard: number of the process that works on it} of those begun after `since` (time.time()), and not done.

    A number from an earlier run may be another process's by now.
    """
    found = {}
    for name in left(folder):
        note = work_path(folder, name) / "worker"
        if note.exists() and note.stat().st_mtime > since:
            found[name] = int(note.read_text())
    return found


def generate(
    folder, teacher: Teacher, strategy="auto", settings=None, budget=None, limits=None, concurrency: int = 8
) -> dict[str, int]:
    """Make the dialogues of all shards that are left, on the cluster that this process is connected to.

    Returns {"shards": made now, "kept": from before, "dialogues": in those made now, "failed": seeds without one}.
    folder      : with shards from `cut`, on a disk that all machines of the cluster see.
    budget      : a Budget for each shard: workers share none.
    limits      : a Limits for the endpoint as a whole; each worker keeps to its share.
    concurrency : dialogues under way at a time, all workers together.
    Run it again after any stop: it goes on. Raises CourseError: Ray is missing, other settings than before, or what
    stopped a shard (endpoint down, budget spent), after the others are done.
    """
    ray, folder = scaling.need_ray(), Path(folder).absolute()
    settings, limits = settings or selfchat.Settings(), limits or selfchat.Limits()
    strategy, path = selfchat.choose(strategy, teacher), folder / "settings.json"
    text = json.dumps(selfchat.settings_record(strategy, teacher, settings), ensure_ascii=False, indent=2) + "\n"
    if not path.exists():
        common.write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise CourseError(f"{common.show(path)}: this job was begun with other settings. Name another folder.")
    processes = max(1, int(ray.cluster_resources()["CPU"]))
    # Workers don't talk to each other, and together must keep to the endpoint's limits.
    for name in ("requests_per_minute", "tokens_per_minute"):
        if whole := getattr(limits, name):
            limits = replace(limits, **{name: max(1, whole // processes)})
    each = max(1, concurrency // processes)
    options = {"settings": settings, "budget": budget, "limits": limits, "concurrency": each}
    address = replace(teacher, engine=None)  # an engine of one's own stays where it was started

    def talk(row):
        """Stage 1: the shard's seeds become dialogues in its journal. "problem": why it is not finished, or ""."""
        work = work_path(folder, row["shard"])
        common.write_text(work / "worker", str(os.getpid()))
        try:
            pool = seeds.read(seeds_path(folder, row["shard"]))
            made = selfchat.collect(pool, address, work / "corpus.jsonl", strategy, progress=False, **options)
            return row | {"seeds": len(pool), "problem": asyncio.run(made).stopped}
        except CourseError as error:
            return row | {"seeds": 0, "problem": str(error)}

    def write(row):
        """Stage 2: a finished journal becomes the shard's parquet file, whole, in the order of its seeds."""
        made = []
        if not row["problem"]:
            order = [seed.id for seed in seeds.read(seeds_path(folder, row["shard"]))]
            made = corpus.read(work_path(folder, row["shard"]) / "corpus.jsonl")
            made.sort(key=lambda dialogue: order.index(dialogue.id))
            corpus.write_parquet(made, result_path(folder, row["shard"]))
        return row | {"dialogues": len(made), "failed": row["seeds"] - len(made)}

    todo, rows = left(folder), []
    if todo:  # a block per shard, so that each can fail and be retried by itself
        data = ray.data.from_items([{"shard": name} for name in todo], override_num_blocks=len(todo))
        with scaling.telling_faults():
            rows = data.map(talk, num_cpus=1).map(write, num_cpus=1).take_all()
    stopped = sorted((row["shard"], row["problem"]) for row in rows if row["problem"])
    if stopped:
        raise CourseError(
            f"{len(stopped)} of {len(rows)} shards are not finished; {stopped[0][0]}: {stopped[0][1]} "
            "The other shards are done. Run this again when it is fixed: it goes on from here."
        )
    sums = {name: sum(row[name] for row in rows) for name in ("dialogues", "failed")}
    return {"shards": len(rows), "kept": len(names(folder)) - len(todo), **sums}
