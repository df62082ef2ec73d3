"""Self-chat against an endpoint that misbehaves on purpose: no seed vanishes, and the run ends."""

import asyncio
import json
import random
from collections import Counter, deque

import pytest
from endpoints import Answer, completion, serving

from baize_nb import client, corpus, selfchat, teacher
from baize_nb.client import RateLimiter
from baize_nb.common import CourseError
from baize_nb.faults import asked_pause
from baize_nb.seeds import Seed

SETTINGS = selfchat.Settings(max_turns=2, answer_tokens=40, question_tokens=24)
QUICK = selfchat.Limits(attempts=4, first_wait=0.01, timeout=1.0)


def make_seeds(n):
    return [Seed(f"s-{i}", f"What is number {i} good for?", "numbers", "Apache-2.0") for i in range(n)]


def run(url, path, seeds=8, **options):
    options = {"settings": SETTINGS, "limits": QUICK, "strategy": "two-role", "progress": False} | options
    return asyncio.run(selfchat.collect(make_seeds(seeds), teacher.Teacher(url, "m"), path, **options))


def reasons(path):
    failed = path.with_name("failed.jsonl")
    return {r["id"]: r["reason"] for r in map(json.loads, failed.read_text().splitlines())}


def good(path, body):
    """A sensible reply to either side of a two-role dialogue, different each time."""
    good.count = getattr(good, "count", 0) + 1
    human = "Write what the" in str(body) or "text" in path
    return Answer(completion(f"And what about case {good.count}?" if human else f"It has use number {good.count}."))


FAULTS = {
    "429 with Retry-After": Answer({"error": {"message": "slow"}}, 429, {"Retry-After": "0.05"}),
    "429 with a date": Answer({"error": {}}, 429, {"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"}),
    "429 without": Answer({"error": {"message": "slow"}}, 429),
    "500": Answer(b"Internal error", 500, {"Content-Type": "text/plain"}),
    "503 with HTML": Answer(b"<html>busy</html>", 503, {"Content-Type": "text/html"}),
    "reset": Answer(fault="reset"),
    "time-out": Answer(fault="hang"),
    "half a body": Answer(completion("Half."), fault="cut"),
    "no JSON": Answer(b'{"choices": [{"mess'),
    "HTML with 200": Answer(b"<html>welcome</html>", 200, {"Content-Type": "text/html"}),
    "null": Answer(b"null"),
    "a list": Answer(b"[1, 2]"),
    "empty choices": Answer(completion("x") | {"choices": []}),
    "no choices": Answer({"id": "x"}),
    "text is a number": Answer(completion(17)),
    "a megabyte": Answer(completion("word " * 200_000)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_that_passes_costs_no_dialogue(fault, tmp_path):
    """Every third request goes wrong; a later attempt succeeds."""
    asked = Counter()

    async def answer(path, body):
        asked["all"] += 1
        return FAULTS[fault] if asked["all"] % 3 == 0 else good(path, body)

    quick = selfchat.Limits(attempts=6, first_wait=0.01, timeout=0.3)
    with serving(answer) as url:
        report = run(url, tmp_path / "corpus.jsonl", seeds=5, limits=quick)
    assert (report.made, report.failed) == (5, 0)
    assert len(corpus.read(tmp_path / "corpus.jsonl")) == 5


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_that_stays_is_recorded_and_can_be_taken_up_again(fault, tmp_path):
    path = tmp_path / "corpus.jsonl"
    broken = [True]

    async def answer(path, body):
        bad = broken[0] and "number 1 " in str(body)
        return FAULTS[fault] if bad else good(path, body)

    quick = selfchat.Limits(attempts=2, first_wait=0.01, timeout=0.3)
    with serving(answer) as url:
        report = run(url, path, seeds=4, limits=quick)
        assert (report.made, report.failed) == (3, 1)
        assert list(reasons(path)) == ["s-1"]
        assert reasons(path)["s-1"]
        again = run(url, path, seeds=4, limits=quick)
        assert (again.made, again.failed) == (0, 0), "a failed seed is not tried again unasked"
        broken[0] = False
        options = {"settings": SETTINGS, "limits": quick, "strategy": "two-role", "progress": False}
        retried = asyncio.run(selfchat.retry_failed(teacher.Teacher(url, "m"), path, **options))
    assert (retried.made, retried.failed) == (1, 0)
    dialogues = corpus.read(path)
    assert sorted(d.id for d in dialogues) == ["s-0", "s-1", "s-2", "s-3"]
    assert {d.license for d in dialogues} == {"Apache-2.0"}


def test_every_seed_ends_as_a_dialogue_or_as_a_failure(tmp_path):
    dice = random.Random(7)

    async def answer(path, body):
        return FAULTS[dice.choice(list(FAULTS))] if dice.random() < 0.5 else good(path, body)

    quick = selfchat.Limits(attempts=3, first_wait=0.01, timeout=0.2)
    with serving(answer) as url:
        report = run(url, tmp_path / "corpus.jsonl", seeds=40, limits=quick, concurrency=16)
    done = {d.id for d in corpus.read(tmp_path / "corpus.jsonl")}
    failed = set(reasons(tmp_path / "corpus.jsonl"))
    assert not done & failed
    assert done | failed == {f"s-{i}" for i in range(40)}
    assert (report.made, report.failed) == (len(done), len(failed))
    assert done
    assert failed


@pytest.mark.parametrize(
    ("finish", "text", "end"),
    [("content_filter", "I", "content_filter"), ("length", "No end in sight", "length"), ("stop", "", "empty")],
)
def test_first_answer_without_use_is_a_failure_with_its_reason(finish, text, end, tmp_path):
    async def answer(path, body):
        return Answer(completion(text, finish))

    with serving(answer) as url:
        report = run(url, tmp_path / "corpus.jsonl", seeds=2)
    assert (report.made, report.failed) == (0, 2)
    assert end in reasons(tmp_path / "corpus.jsonl")["s-0"]


def test_filter_in_mid_dialogue_keeps_the_exchanges_before(tmp_path):
    async def answer(path, body):
        human = "Write what the" in str(body)
        late = len(body["messages"]) > 2
        return good(path, body) if human or not late else Answer(completion("", "content_filter"))

    with serving(answer) as url:
        run(url, tmp_path / "corpus.jsonl", seeds=1)
    (dialogue,) = corpus.read(tmp_path / "corpus.jsonl")
    assert (dialogue.turns, dialogue.end) == (1, "content_filter")


def test_chat_that_outgrows_the_endpoint_keeps_its_exchanges(tmp_path):
    async def answer(path, body):
        if len(str(body)) > 1500:
            return Answer({"error": {"message": "the request exceeds the available context size"}}, 400)
        return good(path, body)

    settings = selfchat.Settings(max_turns=40, answer_tokens=40, question_tokens=24)
    with serving(answer) as url:
        run(url, tmp_path / "corpus.jsonl", seeds=1, settings=settings)
    (dialogue,) = corpus.read(tmp_path / "corpus.jsonl")
    assert dialogue.end == "context"
    assert dialogue.turns >= 1


@pytest.mark.parametrize("status", [401, 403])  # 403 is the key only if the body says so
def test_refused_key_stops_the_run_and_is_never_written(status, tmp_path):
    asked = Counter()

    async def answer(path, body):
        asked["all"] += 1
        return Answer({"error": {"message": "Invalid API key"}}, status)

    with serving(answer) as url:
        wrong = teacher.Teacher(url, "m", "sk-secret-123")
        with pytest.raises(CourseError, match="refused the key"):
            asyncio.run(selfchat.collect(make_seeds(50), wrong, tmp_path / "corpus.jsonl", "two-role", progress=False))
    assert asked["all"] <= 16, "one per worker, and no second attempt"
    assert not any(b"sk-secret" in file.read_bytes() for file in tmp_path.iterdir())


def test_long_pause_is_told_to_a_person(tmp_path):
    async def answer(path, body):
        return Answer({"error": {"message": "come back tomorrow"}}, 429, {"Retry-After": "86400"})

    with serving(answer) as url, pytest.raises(CourseError, match="pause of 1440 minutes"):
        run(url, tmp_path / "corpus.jsonl")


@pytest.mark.parametrize("says_when", [True, False])
def test_endpoint_with_a_rate_limit_is_respected(says_when, tmp_path):
    """30 requests per half second, refused above; the run adapts, finishes, and wastes few requests."""
    times, refused = deque(), Counter()

    async def answer(path, body):
        now = asyncio.get_running_loop().time()
        while times and times[0] < now - 0.5:
            times.popleft()
        if len(times) >= 30:
            refused["all"] += 1
            return Answer({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.2"} if says_when else {})
        times.append(now)
        return good(path, body)

    patient = selfchat.Limits(attempts=20, first_wait=0.05)
    with serving(answer) as url:
        report = run(url, tmp_path / "corpus.jsonl", seeds=60, limits=patient, concurrency=24)
    assert (report.made, report.failed) == (60, 0)
    assert refused["all"] < 180, "more refusals than requests that were needed"


def test_pace_never_passes_more_than_its_limits_in_any_window(monkeypatch):
    monkeypatch.setattr(client, "WINDOW", 0.4 * 1.02)

    async def send():
        pace, sent = RateLimiter(requests=10, tokens=400), []

        async def one(tokens):
            entry = await pace.turn(100)
            sent.append((asyncio.get_running_loop().time(), tokens))
            await asyncio.sleep(0.01)
            pace.correct(entry, tokens)

        await asyncio.gather(*(one(30 + i % 20) for i in range(40)))
        return sent

    sent = asyncio.run(send())
    for i, (start, _) in enumerate(sent):
        window = [tokens for time, tokens in sent[i:] if time < start + 0.4]
        assert len(window) <= 10
        assert sum(window) <= 400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "20"}, 0.02),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "1m"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_pause_that_an_endpoint_asks_for(headers, seconds):
    assert asked_pause(headers) == (None if seconds is None else pytest.approx(seconds))
