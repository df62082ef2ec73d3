"""Corpus inspection at the paper's scale, and beside what one would do without it: `python benchmarks/corpus.py`.

Knows: how to run a job in a process of its own and take its seconds and its memory. Every job reads the same generated
file. Takes five minutes, with --large 1150000 about half an hour; prints the table that README.md here holds.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import generated

from baize_nb import corpus, models

HELDOUT = 2000  # as many as Baize held out


def ours(path, n):
    """Everything, the corpus in memory."""
    clock = Clock()
    dialogues = corpus.read(path)
    clock.lap("read")
    return _inspect(dialogues, n, clock)


def streamed(path, n):
    """Everything, the file read anew for each step."""
    return _inspect(corpus.stream(path), n, Clock())


def _inspect(dialogues, n, clock):
    table = corpus.stats(corpus.measure(dialogues, models.load_tokenizer()))
    clock.lap("statistics and tokens")
    sketches = corpus.sketch(dialogues)
    found = corpus.near_duplicates(dialogues, sketches=sketches)
    clock.lap("near duplicates")
    taken = corpus.heldout_positions(dialogues, min(HELDOUT, n // 3), sketches=sketches)
    clock.lap("split")
    facts = {"tokens": round(table.loc["all", "tokens"] * 2 * table.loc["all", "turns"] * n)}
    return clock.result(**facts, duplicates=len(found), heldout=len(taken))


def our_statistics(path, n):
    """Read and count: the part that the others below can do too."""
    tokenizer, clock = models.load_tokenizer(), Clock()
    table = corpus.stats(corpus.stream(path), tokenizer)
    clock.lap("statistics and tokens")
    return clock.result(words=round(float(table.loc["all", "words"]), 3))


def plain_loop(path, n):
    """What a student would write first: one line, one message, one call of the tokenizer at a time."""
    tokenizer, clock = models.load_tokenizer(), Clock()
    lengths, tokens = [], 0
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            for message in json.loads(line)["messages"]:
                lengths.append(len(re.findall(r"\w+", message["content"].lower())))
                tokens += len(tokenizer(message["content"], add_special_tokens=False)["input_ids"])
    clock.lap("statistics and tokens")
    return clock.result(words=round(sum(lengths) / len(lengths), 3))


def pandas_alone(path, n):
    """A data frame with one row a message."""
    import pandas as pd

    tokenizer, clock = models.load_tokenizer(), Clock()
    frame = pd.read_json(path, lines=True).explode("messages")
    frame["role"], frame["content"] = frame["messages"].str["role"], frame["messages"].str["content"]
    frame["words"] = frame["content"].str.lower().str.count(r"\w+")
    frame["tokens"] = frame["content"].map(lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]))
    frame.groupby(["source", "role"])[["words", "tokens"]].mean()
    clock.lap("statistics and tokens")
    return clock.result(words=round(float(frame["words"].mean()), 3))


def datasets_map(path, n):
    """datasets: load, then map in batches, with the tokenizer called on whole batches."""
    import datasets

    def count(batch):
        texts = [m["content"] for messages in batch["messages"] for m in messages]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return {"words": [len(re.findall(r"\w+", text.lower())) for text in texts], "tokens": [len(i) for i in ids]}

    datasets.disable_progress_bars()
    tokenizer, clock = models.load_tokenizer(), Clock()
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset("json", data_files=str(path), cache_dir=cache, split="train")
        counted = rows.map(count, batched=True, remove_columns=rows.column_names)
        words = counted["words"]
        mean = sum(words) / len(words)
    clock.lap("statistics and tokens")
    return clock.result(words=round(mean, 3))


def our_duplicates(path, n):
    """Near duplicates alone, of dialogues in memory."""
    dialogues, clock = corpus.read(path), Clock()
    found = corpus.near_duplicates(dialogues)
    clock.lap("near duplicates")
    return clock.result(duplicates=len(found))


def all_pairs(path, n):
    """Near duplicates by comparing every dialogue with every earlier one."""
    dialogues, clock = corpus.read(path), Clock()
    sets = [set(corpus.trigrams("\n".join(m["content"] for m in d.messages))) for d in dialogues]
    found = 0
    for i, mine in enumerate(sets):
        found += any(len(mine & other) >= 0.7 * len(mine | other) for other in sets[:i])
    clock.lap("near duplicates")
    return clock.result(duplicates=found)


class Clock:
    """Seconds since the last lap, by name."""

    def __init__(self):
        self.laps, self.last = {}, time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.laps[name], self.last = now - self.last, now

    def result(self, **facts):
        """What a job gives back: its laps, their sum, the processor's seconds, the peak memory, what it found."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {"seconds": sum(self.laps.values()), "cpu": time.process_time(), "GB": peak, "laps": self.laps, **facts}


JOBS = {
    job.__name__: job
    for job in (ours, streamed, our_statistics, plain_loop, pandas_alone, datasets_map, our_duplicates, all_pairs)
}


def run(name, path, n):
    """Result of a job in a process of its own."""
    command = [sys.executable, __file__, "--job", name, "--file", str(path), "--dialogues", str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(f"{name:15} {n:>9,}  {done.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(folder, n, large, common, pairs):
    """Run everything; return the rows of the table."""
    files = {size: corpus.write(generated.dialogues(size), folder / f"{size}.jsonl") for size in {n, common, pairs}}
    rows = [("everything, in memory", n, run("ours", files[n], n), None)]
    small = run("streamed", files[n], n)
    rows.append(("everything, streamed", n, small, None))
    if large:
        path = corpus.write(generated.dialogues(large), folder / "large.jsonl")
        result = run("streamed", path, large)
        rows.append(("everything, streamed", large, result, result["seconds"] / large / (small["seconds"] / n)))
    rows += _beside(
        "statistics and tokens", "our_statistics", ("datasets_map", "pandas_alone", "plain_loop"), files, common
    )
    rows += _beside("near duplicates", "our_duplicates", ("all_pairs",), files, pairs)
    return rows


def _beside(task, mine, others, files, n):
    first = run(mine, files[n], n)
    rows = [(f"{task}: this package", n, first, None)]
    for name in others:
        result = run(name, files[n], n)
        assert all(result[k] == first[k] for k in ("words", "duplicates") if k in first), f"{name} found something else"
        rows.append((f"{task}: {name.replace('_', ' ')}", n, result, result["seconds"] / first["seconds"]))
    return rows


def table(rows):
    """The rows as Markdown."""
    lines = ["| | dialogues | seconds | ms each | peak GB | ratio |", "|---|--:|--:|--:|--:|--:|"]
    for what, n, result, ratio in rows:
        times = f"{ratio:.2f} ×" if ratio else ""
        seconds = result["seconds"]
        lines.append(f"| {what} | {n:,} | {seconds:.1f} | {seconds / n * 1e3:.2f} | {result['GB']:.2f} | {times} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dialogues", type=int, default=115_000)
    parser.add_argument("--large", type=int, default=0, help="also this many, streamed: 1150000")
    parser.add_argument("--common", type=int, default=23_000, help="for the comparison with others")
    parser.add_argument("--pairs", type=int, default=2_000, help="for the comparison with all pairs")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.job:
        print(json.dumps(JOBS[chosen.job](chosen.file, chosen.dialogues)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(table(compare(Path(folder), chosen.dialogues, chosen.large, chosen.common, chosen.pairs)))


if __name__ == "__main__":
    main()
