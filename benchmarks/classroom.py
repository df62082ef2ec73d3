"""A room of students at one teacher: `python benchmarks/classroom.py`. Two minutes on two cores.

30 students ask at once, each again as soon as an answer has come; one of them keeps ten requests waiting, the others
two. Who is served how often, while all are asking? And is every request answered, and written down?
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import openai

from baize_nb import seeds, teacher

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from accounts import Accounts, files
from classroom import Room, Upstream


async def student(client, model, questions, at_once, ends, log):
    """One student's requests, `at_once` of them waiting at any time, until `ends`.

    log : gets (usage, seconds, whether all were still asking) of each answer.
    """

    async def ask(number):
        while time.perf_counter() < ends:
            begin = time.perf_counter()
            text = questions[number % len(questions)].text
            reply = await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": text}], max_tokens=24
            )
            log.append((reply.usage, time.perf_counter() - begin, time.perf_counter() < ends))
            number += at_once

    await asyncio.gather(*(ask(i) for i in range(at_once)))


async def lesson(model, students, seconds, places):
    """{student: their log}; the first student is the greedy one. All begin together."""
    questions = seeds.load("quora")
    async with contextlib.AsyncExitStack() as stack:
        accounts = stack.enter_context(Accounts(students, 10**9))
        upstream = await stack.enter_async_context(model.client(max_retries=0, timeout=600))
        room = Room(accounts, Upstream(model, upstream), places)
        url = f"http://127.0.0.1:{room.listen(0, '127.0.0.1')}/v1"
        keys = dict(line.split(",") for line in files()[0].read_text().splitlines())
        clients = [
            await stack.enter_async_context(openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0))
            for key in keys.values()
        ]
        logs, ends = {name: [] for name in keys}, time.perf_counter() + seconds
        work = zip(clients, logs.values(), strict=True)
        await asyncio.gather(
            *(student(c, model.model, questions, 2 if i else 10, ends, log) for i, (c, log) in enumerate(work))
        )
        await room.stop()
    return logs


def report(logs, seconds):
    """The table, and the two things that must hold: nothing lost, nothing charged wrongly."""
    written = Counter()
    for line in map(json.loads, files()[1].read_text().splitlines()):
        written[line["student"]] += line["prompt"] + line["completion"]
    assert written == {name: sum(usage.total_tokens for usage, *_ in log) for name, log in logs.items()}
    in_time = {name: [entry for entry in log if entry[2]] for name, log in logs.items()}
    answers = [len(log) for log in in_time.values()]
    tokens = [sum(usage.completion_tokens for usage, *_ in log) for log in in_time.values()]
    waits = [wait for log in logs.values() for _, wait, _ in log]
    rows = {
        "students": len(logs),
        "requests sent, all answered": sum(map(len, logs.values())),
        "answers per student while all were asking, fewest to most": f"{min(answers)} to {max(answers)}",
        "most / fewest": f"{max(answers) / min(answers):.2f}",
        "tokens written per student, most / fewest": f"{max(tokens) / min(tokens):.2f}",
        "the greedy student's answers / the others' mean": f"{answers[0] / statistics.mean(answers[1:]):.2f}",
        "tokens written per second, all together": f"{sum(tokens) / seconds:.0f}",
        "seconds until an answer, median and longest": f"{statistics.median(waits):.1f}, {max(waits):.1f}",
    }
    print("| measure | value |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in rows.items()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--places", type=int, default=16)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.environ["BAIZE_RUNS"] = folder
        model = stack.enter_context(teacher.embedded(asked.places))
        report(asyncio.run(lesson(model, asked.students, asked.seconds, asked.places)), asked.seconds)


if __name__ == "__main__":
    main()
