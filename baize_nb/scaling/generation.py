"""Self-chat, shard by shard, on a Ray cluster: `selfchat.collect` as Ray Data stages.

Knows: which stage comes after which, and what a worker has to be told. Does not know: how a dialogue is made (selfchat)
or which files a shard has (shards.py). Built in notebook 08.

A worker may die at any moment. Ray gives its shard to another worker, whose `collect` finds the journal and goes on:
what was answered and written down is not asked again. What was under way in that moment is asked once more, at most
as many requests as the worker had dialogues in flight.
"""

import asyncio
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .. import common, corpus, seeds, selfchat
from ..common import CourseError
from ..selfchat import settings_record
from ..teacher import Teacher
from . import cluster, shards


@dataclass(frozen=True)
class Job:
    """What each worker is told. The teacher is an address: an engine of one's own stays where it was started."""

    folder: str
    teacher: Teacher
    strategy: str
    settings: selfchat.Settings
    limits: selfchat.Limits
    budget: selfchat.Budget
    concurrency: int


@dataclass
class Generated:
    """What `generate` did.

    shards : finished by this run. kept : finished before. dialogues, failed : seeds of this run's shards that gave a
    dialogue or none. requests : that these shards took, in earlier runs too. workers : processes that finished one.
    """

    folder: Path
    shards: int = 0
    kept: int = 0
    dialogues: int = 0
    failed: int = 0
    requests: int = 0
    workers: set = field(default_factory=set)

    def __str__(self):
        return (
            f"{common.show(self.folder)}: {self.shards} shards made by {len(self.workers)} workers, {self.kept} "
            f"kept from before; {self.dialogues} dialogues, {self.failed} failed; {self.requests} requests"
        )


def generate(folder, teacher, strategy="auto", settings=None, budget=None, limits=None, concurrency=8):
    """Make the dialogues of all shards that are left, on the cluster this process is connected to; return `Generated`.

    folder      : with shards from `shards.cut`, on a disk that all machines of the cluster see.
    budget      : a Budget for each shard: workers share no purse.
    limits      : a Limits for the endpoint as a whole; each worker keeps to its share.
    concurrency : dialogues under way at a time, all workers together.
    Run it again after any stop: it goes on. Raises CourseError: Ray is missing, other settings than before, or what
    stopped a shard (endpoint down, budget spent), after the others are done.
    """
    ray = cluster.need()
    settings, budget, limits = settings or selfchat.Settings(), budget or selfchat.Budget(), limits or selfchat.Limits()
    strategy = selfchat.choose(strategy, teacher)
    shards.settle(folder, json.loads(json.dumps(settings_record(strategy, teacher, settings))))
    workers = max(1, int(ray.cluster_resources()["CPU"]))
    told = replace(teacher, engine=None), strategy, settings, share(limits, workers), budget
    job = Job(str(Path(folder).absolute()), *told, concurrency=max(1, concurrency // workers))
    todo = shards.left(folder)
    rows = _stages(ray, todo, job).take_all() if todo else []
    return _report(Path(folder), rows, kept=len(shards.names(folder)) - len(todo))


def _stages(ray, todo, job):
    """The Ray Data pipeline: a block per shard, so that each can fail and be retried by itself."""
    data = ray.data.from_items([{"shard": name} for name in todo], override_num_blocks=len(todo))
    for stage in (talk, write):
        data = data.map(stage, fn_kwargs={"job": job}, num_cpus=1)
    return data


def talk(row, job):
    """Stage 1: the shard's seeds become dialogues in its journal. Adds "problem": why it is not finished, or ""."""
    work = shards.work_path(job.folder, row["shard"])
    common.write_text(work / "worker", str(os.getpid()))
    told = {"settings": job.settings, "budget": job.budget, "limits": job.limits, "concurrency": job.concurrency}
    try:
        pool = seeds.read(shards.seeds_path(job.folder, row["shard"]))
        path = work / "corpus.jsonl"
        report = asyncio.run(selfchat.collect(pool, job.teacher, path, job.strategy, progress=False, **told))
    except CourseError as error:
        return row | {"problem": str(error)}
    return row | {"problem": report.stopped}


def write(row, job):
    """Stage 2: a finished journal becomes the shard's parquet file, whole, in the order of its seeds. Adds counts."""
    counts = {"dialogues": 0, "failed": 0, "requests": 0, "worker": os.getpid()}
    if row["problem"]:
        return row | counts
    work, order = shards.work_path(job.folder, row["shard"]), {}
    for seed in seeds.read(shards.seeds_path(job.folder, row["shard"])):
        order[seed.id] = len(order)
    made = sorted(corpus.read(work / "corpus.jsonl"), key=lambda d: order[d.id])
    failures = _failures(work)
    counts["dialogues"], counts["failed"] = len(made), len({f["id"] for f in failures} - {d.id for d in made})
    counts["requests"] = sum(n.get("requests", 0) for n in [d.usage for d in made] + [f["usage"] for f in failures])
    corpus.write_parquet(made, shards.result_path(job.folder, row["shard"]))
    return row | counts


def _failures(work):
    lines = selfchat.failures_path(work / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _report(folder, rows, kept):
    """Add up; raise where a shard was stopped, naming the first reason."""
    stopped = sorted((row["shard"], row["problem"]) for row in rows if row["problem"])
    if stopped:
        raise CourseError(
            f"{len(stopped)} of {len(rows)} shards are not finished; {stopped[0][0]}: {stopped[0][1]} "
            "The other shards are done. Run this again when it is mended: it goes on from here."
        )
    sums = Counter()
    for row in rows:
        sums.update({name: row[name] for name in ("dialogues", "failed", "requests")})
    return Generated(folder, len(rows), kept, **sums, workers={row["worker"] for row in rows})


def share(limits, workers):
    """Each worker's part of an endpoint's limits: they don't talk to each other, and together must keep to them."""
    parts = {name: asdict(limits)[name] for name in ("requests_per_minute", "tokens_per_minute")}
    return replace(limits, **{name: n and max(1, n // workers) for name, n in parts.items()})
