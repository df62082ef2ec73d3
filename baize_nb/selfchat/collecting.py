"""Many dialogues: several at a time, each kept as soon as it is finished, going on after any stop.

Knows: workers, resuming, failures, progress. Does not know: how a dialogue is made (strategies.py) or how a request
is sent and paid (asking.py). Built in notebook 02.
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import openai

from .. import common
from ..common import Journal
from ..seeds import Seed
from ..teacher import Teacher
from .asking import Faulty, Line, Requester, describe
from .budget import Budget, BudgetSpent, Purse, dollars, price_of
from .choosing import choose
from .outcomes import Outcome, dialogue_record, failure_record, failures_path, once_each, shaping, too_long
from .pacing import Limits, Pace
from .requestlog import RequestLog
from .strategies import STRATEGIES, Settings


@dataclass
class Report(Outcome):
    """What a run of `collect` did; of the counts see `Outcome`.

    seconds : how long it took. usd : dollars that the whole file has cost so far; None where the price is unknown.
    stopped : "" or why the run ended before the last seed (a spent budget).
    """

    seconds: float = 0.0
    usd: float | None = None
    stopped: str = ""

    def __str__(self):
        cost = f"; ${self.usd:.4f} spent on this file" if self.usd else ""
        return f"{super().__str__()} in {self.seconds:.0f} s{cost}" + (f"\n{self.stopped}" if self.stopped else "")


async def collect(
    seeds,
    teacher,
    path,
    strategy="auto",
    settings=None,
    budget=None,
    limits=None,
    concurrency=16,
    progress=True,
    retry=False,
):
    """Make one dialogue per seed and append each to `path` as soon as it is finished. Returns a Report.

    Run it again after any stop (interrupt, kill, full disk, spent budget): seeds that are done are skipped, a dialogue
    that was cut off goes on with its next request, nothing that was answered is asked again.
    A seed that gives no dialogue is recorded in `failed.jsonl` beside the corpus; `retry_failed` takes those up.

    strategy    : "open-header", "two-role", "transcript", or "auto" (see `choose`).
    settings    : a Settings. budget : a Budget, never exceeded. limits : a Limits.
    concurrency : dialogues under way at the same time.
    retry       : whether seeds that failed in an earlier run are tried again.
    Raises CourseError: wrong key, endpoint down, other settings than the file was begun with, disk full.
    """
    settings, budget, limits = settings or Settings(), budget or Budget(), limits or Limits()
    strategy, path = choose(strategy, teacher), Path(path)
    seeds = once_each(seeds).values()
    started = shaping(strategy, teacher, settings)
    with contextlib.ExitStack() as files:
        corpus = files.enter_context(Journal(path, started))
        failures = files.enter_context(Journal(failures_path(path)))
        done, failed = corpus.ids(), Counter(record["id"] for record in failures.records())
        log = files.enter_context(RequestLog(path, done))
        report = Report(path, kept=len(done))
        purse = Purse(budget, price_of(teacher, budget.price), log.spent)
        todo = [seed for seed in seeds if seed.id not in done and (retry or seed.id not in failed)]
        if budget.dialogues is not None:
            todo = todo[: max(0, budget.dialogues - len(done))]
        report.write_manifest(started)
        if todo:
            run = _Run(teacher, strategy, settings, limits, corpus, failures, failed, log, purse, report)
            try:
                await run.all(todo, min(concurrency, len(todo)), progress)
            except asyncio.CancelledError:  # an interrupted cell; Jupyter shows it as a long traceback
                kept = report.kept + report.made
                print(f"Interrupted: {kept} dialogues are in {common.show(path)}. Run this again to go on.")
                raise
        report.usd = purse.usd
        report.write_manifest(started)
    return report


async def retry_failed(teacher, path, **options):
    """Take up the seeds of `failed.jsonl` that have no dialogue yet; options are those of `collect`.

    A seed whose endpoint failed goes on where it stopped; one whose answers were useless is asked afresh, with other
    random numbers. The old lines of `failed.jsonl` stay, as a record.
    """
    with Journal(failures_path(path)) as failures:
        failed = {r["id"]: r for r in failures.records()}
    seeds = [Seed(i, r["seed"], r.get("source", ""), r.get("license", "")) for i, r in failed.items()]
    return await collect(seeds, teacher, path, retry=True, **options)


@dataclass
class _Run:
    """One run of `collect`: the workers and what they share."""

    teacher: Teacher
    strategy: str
    settings: Settings
    limits: Limits
    corpus: Journal
    failures: Journal
    failed_before: Counter  # how often each seed failed in earlier runs
    log: RequestLog
    purse: Purse
    report: Report

    async def all(self, seeds, concurrency, progress):
        """Let `concurrency` workers take seeds from one pile until it is empty. The first fatal error stops all."""
        pile = iter(seeds)
        begin = time.monotonic()
        pace = Pace(self.limits.requests_per_minute, self.limits.tokens_per_minute)
        # No retries by the client: each attempt has to fit the budget, see asking.py.
        async with self.teacher.client(max_retries=0, timeout=self.limits.timeout) as client:
            self.requester = Requester(client, self.teacher, self.limits, self.purse, pace, self.log)
            with _bar(len(seeds), progress) as bar:
                workers = [asyncio.create_task(self._work(pile, bar)) for _ in range(concurrency)]
                try:
                    await asyncio.gather(*workers)
                except BudgetSpent as spent:
                    self.report.stopped = str(spent)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
                    self.report.seconds = time.monotonic() - begin

    async def _work(self, pile, bar):
        for seed in pile:
            await self._one(seed)
            bar.set_postfix_str(self._so_far(bar.total), refresh=False)
            bar.update()

    def _so_far(self, total):
        """Tokens and dollars so far, and what the whole will cost if it goes on like this."""
        spent = self.purse.spent
        text = f"{sum(spent):,} tokens"
        if self.purse.usd:
            fresh = dollars(spent.minus(self.log.spent), self.purse.price)
            done = self.report.made + self.report.failed
            text += f", ${self.purse.usd:.3f}, about ${self.purse.usd + fresh * (total - done) / done:.2f} in all"
        return text

    async def _one(self, seed):
        """One seed: a line in the corpus, or a line in failed.jsonl with the reason."""
        line = Line(self.requester, seed, self.log.replies.pop(seed.id, ()), self.failed_before[seed.id])
        try:
            if reason := too_long(seed):
                raise ValueError(reason)
            messages, end = await STRATEGIES[self.strategy](line, seed, self.settings)
        except (openai.APIError, Faulty, ValueError) as error:
            await self._failed(seed, line, describe(error))
            return
        if messages:
            await self._finished(seed, line, messages, end)
        else:
            self.log.forget(seed.id)  # the same answers would fail the same way
            await self._failed(seed, line, f"no whole exchange ({end})")

    async def _finished(self, seed, line, messages, end):
        record = dialogue_record(seed, self.strategy, self.teacher.model, messages, line.usage, end)
        self.corpus.write(record)
        await self.corpus.durable()
        self.report.count("made", line.usage)

    async def _failed(self, seed, line, reason):
        self.failures.write(failure_record(seed, reason, line.usage))
        await self.failures.durable()
        self.report.count("failed", line.usage)


def _bar(total, shown):
    """Progress as plain text on stdout: a bar made of widgets would leave its state in the notebook."""
    from tqdm import tqdm

    line = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} dialogues [{elapsed}<{remaining}{postfix}]"
    return tqdm(total=total, file=sys.stdout, ncols=110, disable=not shown, mininterval=1, bar_format=line)
