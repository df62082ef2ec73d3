"""How fast self-chat is, as ratios taken in one run: `python benchmarks/selfchat.py`. Minutes on two cores.

(a) the embedded engine: many dialogues at a time against one, and against a bare client that keeps it saturated
(b) an endpoint with two seconds of latency: the time against the ideal one
(c) the client: memory with 1,000 requests under way, and time per dialogue on a small and on a large file
"""

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from endpoint import slow_endpoint

from baize_nb import seeds, selfchat, teacher
from baize_nb.client import Sender
from baize_nb.corpus import Dialogue
from baize_nb.seeds import Seed

SETTINGS = selfchat.Settings(max_turns=3, answer_tokens=80, question_tokens=40)


def made_up(n, prefix="s"):
    return [Seed(f"{prefix}-{i}", f"What is the number {i} good for?", "numbers", "Apache-2.0") for i in range(n)]


def collect(items, model, folder, **options):
    """(seconds, report) of one run of `collect` in a folder of its own."""
    begin = time.perf_counter()
    report = asyncio.run(selfchat.collect(items, model, Path(folder) / "corpus.jsonl", progress=False, **options))
    return time.perf_counter() - begin, report


def embedded(dialogues=32, slots=16):
    """(a) dialogues per minute at 16 under way and at 1, and tokens/s beside a bare client with the same requests."""
    items = seeds.sample(seeds.load("quora") + seeds.load("medquad"), dialogues)
    bodies = []
    send = Sender.call

    async def noted(self, kind, body, *rest):
        bodies.append((kind, dict(body)))
        return await send(self, kind, body, *rest)

    # An engine of its own for each: it keeps prompts that it has read, and would answer the same ones sooner.
    with teacher.embedded(slots) as model, tempfile.TemporaryDirectory() as folder:
        Sender.call = noted
        many, report = collect(items, model, folder, settings=SETTINGS, concurrency=slots)
        Sender.call = send
    with teacher.embedded(slots) as model, tempfile.TemporaryDirectory() as folder:
        one, _ = collect(items, model, folder, settings=SETTINGS, concurrency=1)
    with teacher.embedded(slots) as model:
        bare, bare_tokens = asyncio.run(saturate(model, bodies, slots))
    ours = report.usage["completion_tokens"] / many
    row("dialogues/minute, 16 at a time against 1", one / many, "≥ 2.2", f"{60 * dialogues / many:.1f} a minute")
    row("tokens/s against a bare saturating client", ours / (bare_tokens / bare), "≥ 0.90", f"{ours:.0f} tokens/s")


async def saturate(model, bodies, slots):
    """(seconds, tokens written) of the same requests, all known beforehand, sent as fast as the engine takes them."""
    pile, written = iter(bodies), 0

    async def work(client):
        nonlocal written
        for kind, body in pile:
            create = (client.chat.completions if kind == "chat" else client.completions).create
            reply = await create(model=model.model, **body)
            written += reply.usage.completion_tokens

    begin = time.perf_counter()
    async with model.client(max_retries=0, timeout=600) as client:
        await asyncio.gather(*(work(client) for _ in range(slots)))
    return time.perf_counter() - begin, written


def latency(dialogues=500, concurrency=100, seconds=2.0):
    """(b) the ideal time is that of the waiting alone."""
    ideal = dialogues / concurrency * seconds
    with slow_endpoint(seconds) as url, tempfile.TemporaryDirectory() as folder:
        model = teacher.Teacher(url, "m", open_header=False)
        took, report = collect(made_up(dialogues), model, folder, concurrency=concurrency)
    assert report.made == dialogues
    row("2 s latency, 500 dialogues, 100 at a time: ideal/real time", ideal / took, "≥ 0.90", f"{took:.1f} s")


def memory(in_flight=1000):
    """(c) peak memory of a client process (a fresh one) with 1,000 requests under way."""
    with slow_endpoint(5.0) as url:
        out = subprocess.run(
            [sys.executable, __file__, "client", url, str(in_flight)], capture_output=True, text=True, check=True
        ).stdout
    peak = json.loads(out)["peak_mb"]
    row("1,000 requests under way: client's peak memory / 300 MB", peak / 300, "≤ 1", f"{peak:.0f} MB")


def client(url, in_flight):
    """What the fresh process of `memory` does."""
    with tempfile.TemporaryDirectory() as folder:
        model = teacher.Teacher(url, "m", open_header=False)
        _, report = collect(made_up(2 * in_flight), model, folder, concurrency=in_flight)
    assert report.made == 2 * in_flight
    print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def growth(sizes=(1_000, 100_000), more=1_000):
    """(c) time per dialogue of 1,000 more, on a file that has 1,000 and on one that has 100,000; least of three."""
    per_dialogue = {}
    with slow_endpoint(0.0) as url:
        model = teacher.Teacher(url, "m", open_header=False)
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                grown(Path(folder) / "corpus.jsonl", size)
                runs = [
                    collect(made_up(more, f"run{i}"), model, folder, strategy="transcript", concurrency=50)[1].seconds
                    for i in range(3)
                ]
                per_dialogue[size] = min(runs) / more
    small, large = per_dialogue.values()
    row("collector's time per dialogue, file of 100,000 against 1,000", large / small, "≈ 1", f"{1000 * large:.1f} ms")


def grown(path, size):
    """A corpus file of `size` dialogues, as an earlier run would have left it."""
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So. " * 60}]
    dialogue = Dialogue("old", "Why?", "numbers", "Apache-2.0", "transcript", "m", messages, {"requests": 1}, "stop")
    with path.open("w", encoding="utf-8") as file:
        for i in range(size):
            file.write(json.dumps(asdict(replace(dialogue, id=f"old-{i}"))) + "\n")


def row(what, ratio, goal, plain):
    print(f"| {what} | {ratio:.2f} | {goal} | {plain} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        client(sys.argv[2], int(sys.argv[3]))
    else:
        print("| measure | ratio | goal | measured |\n|---|---|---|---|")
        for part in (latency, memory, growth, embedded):
            part()
