"""Self-chat and money: the cap holds to the token, and a kill makes nothing paid twice."""

import asyncio
import json
import multiprocessing
import random
import time
from collections import Counter

import pytest
from endpoints import Answer, completion, make_seeds, serving

from baize_nb import corpus, selfchat, teacher
from baize_nb.client import log_path, worst_case
from baize_nb.common import CourseError

SETTINGS = selfchat.Settings(max_turns=3, answer_tokens=40, question_tokens=24)
PRICE = (0.15, 0.60)


def collect(url, path, seeds, **options):
    options = {"strategy": "two-role", "settings": SETTINGS, "progress": False} | options
    return asyncio.run(selfchat.collect(make_seeds(seeds), teacher.Teacher(url, "m"), path, **options))


class Billing:
    """An endpoint that bills each request a random amount within what was asked, and keeps count of it."""

    def __init__(self, seed=0, fault_rate=0.0):
        self.dice, self.fault_rate = random.Random(seed), fault_rate
        self.prompt = self.completion = self.number = 0

    async def __call__(self, path, body):
        self.number += 1
        number = self.number
        await asyncio.sleep(self.dice.uniform(0, 0.02))
        worst = worst_case(body)
        read, wrote = self.dice.randint(5, worst.prompt), self.dice.randint(1, worst.completion)
        fault = self.dice.random()
        if fault < self.fault_rate / 2:
            return Answer({"error": {"message": "busy"}}, 503)  # refused: not billed
        self.prompt, self.completion = self.prompt + read, self.completion + wrote
        if fault < self.fault_rate:
            return Answer(fault="reset")  # made and billed, but lost on the way
        return Answer(completion(f"Is this number {number}?", usage=(read, wrote)))

    @property
    def tokens(self):
        return self.prompt + self.completion

    @property
    def usd(self):
        return (self.prompt * PRICE[0] + self.completion * PRICE[1]) / 1e6


@pytest.mark.parametrize(("concurrency", "fault_rate"), [(1, 0), (7, 0.3), (64, 0), (64, 0.3)])
def test_token_cap_is_never_exceeded(concurrency, fault_rate, tmp_path):
    path, bill = tmp_path / "corpus.jsonl", Billing(seed=concurrency, fault_rate=fault_rate)
    quick = selfchat.Limits(attempts=4, first_wait=0.01)
    with serving(bill) as url:
        options = {"concurrency": concurrency, "limits": quick}
        report = collect(url, path, 80, budget=selfchat.Budget(tokens=60_000), **options)
        assert bill.tokens <= 60_000
        # What was lost on the way is charged at its worst, so with faults less of the cap is put to use.
        assert bill.tokens > (30_000 if fault_rate else 55_000), "the cap was not used"
        assert "of 60,000 tokens spent" in report.stopped
        assert 0 < report.made < 80
        again = collect(url, path, 80, budget=selfchat.Budget(tokens=60_000), **options)
        assert bill.tokens <= 60_000, "the cap is for the file, not for one run"
        # A larger budget goes on from there, and only the rest is paid.
        more = collect(url, path, 80, **options)
    assert more.kept + sum((more.made, more.failed, report.failed, again.failed)) == 80
    assert len(corpus.read(path)) == more.kept + more.made


def test_dollar_cap_is_never_exceeded_and_the_report_says_what_was_spent(tmp_path):
    bill, budget = Billing(), selfchat.Budget(usd=0.01, price=PRICE)
    with serving(bill) as url:
        report = collect(url, tmp_path / "corpus.jsonl", 80, budget=budget, concurrency=32)
    assert 0.008 < bill.usd <= 0.01 and report.usd == pytest.approx(bill.usd, rel=1e-9)
    assert "of $0.0100 spent" in report.stopped


def test_other_caps_and_an_unknown_price(tmp_path):
    bill = Billing()
    with serving(bill) as url:
        small = collect(url, tmp_path / "small.jsonl", 3, budget=selfchat.Budget(tokens=50))
        assert (bill.number, small.made) == (0, 0) and "0 of 50 tokens" in small.stopped
        for made in (4, 0):
            assert collect(url, tmp_path / "corpus.jsonl", 9, budget=selfchat.Budget(dialogues=4)).made == made
        with pytest.raises(CourseError, match=r"price is unknown.*Budget\(tokens"):
            collect(url, tmp_path / "other.jsonl", 9, budget=selfchat.Budget(usd=1))


def test_estimates_grow_with_the_work_and_count_room_for_thoughts():
    paid, thinks = (teacher.Teacher(teacher.OPENAI_URL, name) for name in ("gpt-4o-mini", teacher.OPENAI_MODEL))
    seeds = make_seeds(100)
    one, two = (selfchat.estimate(seeds, paid, s, SETTINGS) for s in ("transcript", "two-role"))
    assert (one.requests, two.requests) == (100, 500)
    assert two.prompt_tokens > 3 * one.prompt_tokens and two.usd > one.usd > 0
    assert one.usd == pytest.approx((one.prompt_tokens * 0.15 + one.completion_tokens * 0.60) / 1e6, rel=1e-6)
    more = selfchat.estimate(seeds, thinks, "two-role", SETTINGS)
    assert more.completion_tokens == two.completion_tokens + 500 * teacher.THOUGHTS
    slow = selfchat.estimate(seeds, paid, "two-role", SETTINGS, limits=selfchat.Limits(requests_per_minute=10))
    assert slow.minutes == 50 and "roughly 50 minutes" in str(slow)
    assert selfchat.estimate(seeds, paid, "transcript", SETTINGS, batch=True).usd == pytest.approx(one.usd / 2)
    assert selfchat.estimate(seeds, teacher.Teacher("http://x/v1", "home-made"), "two-role", SETTINGS).usd is None


# ---- kill -9, thirty times and more ----

KILLS, SEEDS, CONCURRENCY = 32, 200, 6


def _collector(url, path):
    """What the killed process runs."""
    model = teacher.Teacher(url, "m", open_header=False)
    options = {"budget": selfchat.Budget(tokens=10**9), "concurrency": CONCURRENCY, "progress": False}
    asyncio.run(selfchat.collect(make_seeds(SEEDS), model, path, "two-role", SETTINGS, **options))


class Serial:
    """An endpoint that numbers its replies, so that each can be found again on the disk."""

    def __init__(self):
        self.asked, self.number, self.tokens = [], 0, 0  # asked: [(request, number of the reply)]

    async def __call__(self, path, body):
        self.number += 1
        number = self.number
        self.asked.append((json.dumps(body, sort_keys=True), number))
        self.tokens += 30
        await asyncio.sleep(0.01)
        return Answer(completion(f"Is this number ~{number}~?", usage=(20, 10)))


def _on_disk(path):
    """Numbers of all replies that the corpus and the log hold."""
    texts = [file.read_text() for file in (path, log_path(path)) if file.exists()]
    return {int(number) for text in texts for number in text.split("~")[1::2] if number.isdigit()}


def test_killed_thirty_times_nothing_is_lost_and_nothing_is_paid_twice(tmp_path):
    path, endpoint, dice = tmp_path / "corpus.jsonl", Serial(), random.Random(1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["baize_nb.selfchat", "openai", __name__])
    kept = b""
    kills = 0
    with serving(endpoint) as url:
        while kills < KILLS:
            known = {request for request, number in endpoint.asked if number in _on_disk(path)}
            before = len(endpoint.asked)
            process = context.Process(target=_collector, args=(url, path))
            process.start()
            # After some requests of this life, so that a slow machine gets as far as a fast one; then at random.
            life, deadline = dice.choice((0, 1, 10, 25, 40)), time.monotonic() + 60
            while len(endpoint.asked) < before + life and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.03))
            process.kill()
            process.join()
            kills += process.exitcode == -9
            again = {request for request, _ in endpoint.asked[before:]} & known
            assert not again, "an answer that was on disk was asked for, and paid, once more"
            # Whole lines of the corpus only ever grow.
            content = path.read_bytes() if path.exists() else b""
            assert content.startswith(kept)
            kept = content[: content.rfind(b"\n") + 1]
            if process.exitcode == 0:
                break
        halfway = kept.count(b"\n")
        process = context.Process(target=_collector, args=(url, path))
        process.start()
        process.join()
    assert kills >= 30, f"the run was over after {kills} kills: make it longer"
    assert 0 < halfway < SEEDS, "the kills did not fall into the run"
    assert process.exitcode == 0
    assert sorted((d.id, d.turns) for d in corpus.read(path)) == sorted((s.id, 3) for s in make_seeds(SEEDS))
    # What was asked twice was under way when the kill came: at most one request per worker and kill.
    repeated = sum(count - 1 for count in Counter(request for request, _ in endpoint.asked).values())
    assert repeated <= kills * CONCURRENCY
    # And the log owns up to at least everything that the endpoint has billed.
    spent, *rest = map(json.loads, log_path(path).read_text().splitlines())
    logged = sum(spent["spent"]) + sum(sum(line["bill"]) for line in rest if "got" in line)
    assert logged >= endpoint.tokens
