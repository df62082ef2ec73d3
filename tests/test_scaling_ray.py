"""Scaling on a real Ray cluster of two workers: same numbers as one machine; a killed worker loses and pays nothing."""

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from baize_nb import common, corpus, seeds, selfchat, teacher
from baize_nb.common import CourseError
from baize_nb.scaling import cluster, has_ray, pooled, relay, shards

pytestmark = pytest.mark.skipif(not has_ray(), reason="Ray is not installed")
SHORT = selfchat.Settings(max_turns=2, answer_tokens=24, question_tokens=16)
DIALOGUES = corpus.read(common.DATA / "corpus" / "corpus.jsonl")


@pytest.fixture(scope="module")
def ray():
    with cluster(workers=2) as ray:
        yield ray


@pytest.fixture(scope="module")
def engine():
    """(teacher at a relay's address, the relay that counts what arrives at the embedded engine)."""
    with teacher.embedded(slots=4) as model, relay.counting(model.base_url) as counter:
        yield replace(model, base_url=counter.url, engine=None), counter


def in_files(dialogues, folder, n=4):
    size = -(-len(dialogues) // n)
    parts = [dialogues[i : i + size] for i in range(0, len(dialogues), size)]
    return [corpus.write_parquet(part, folder / f"{i:05d}.parquet") for i, part in enumerate(parts)]


def with_copies():
    """Dialogues of which some say what others say, word for word or nearly, in other files; one is a copy's copy."""
    rng = random.Random(3)
    chosen = rng.sample(DIALOGUES, 16)
    copies = [replace(d, id=f"{d.id}-copy") for d in chosen]
    for copy in copies[:8]:
        last = copy.messages[-1]
        copy.messages = [*copy.messages[:-1], {**last, "content": last["content"] + " And so it goes on."}]
    twice = replace(copies[0], id="again")
    return rng.sample([*DIALOGUES, *copies, twice], len(DIALOGUES) + 17)


def test_files_are_cleaned_as_one_corpus(ray, tmp_path, capfd):
    mixed = with_copies()
    single = corpus.clean(mixed)
    assert {"exact_duplicate", "near_duplicate", "echo"} <= set(single.counts())
    paths = in_files(mixed, tmp_path)
    assert pooled.clean(paths, tmp_path / "out") == single.counts()
    kept = [d for path in paths for d in corpus.stream(tmp_path / "out" / path.name)]
    assert kept == single.kept
    lines = [line for path in paths for line in (tmp_path / "out" / f"{path.stem}.removed.jsonl").open()]
    removed = [(r["id"], r["removed_by"], r["why"]) for r in map(json.loads, lines)]
    assert removed == [(r.dialogue.id, r.rule, r.why) for r in single.removed]
    some = in_files(DIALOGUES[:8], tmp_path / "some", 2)
    assert pooled.clean(some, tmp_path / "all", rules=()) == {}
    assert [d for p in some for d in corpus.stream(tmp_path / "all" / p.name)] == DIALOGUES[:8]
    paths[1].write_bytes(paths[1].read_bytes()[:500])
    with pytest.raises(CourseError, match=r"00001\.parquet: a damaged parquet file .* Fetch it again"):
        pooled.clean(paths, tmp_path / "out")
    assert "".join(capfd.readouterr()) == "", "Ray says nothing"


def under_way(path):
    """Requests that a log has as sent and not as answered."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return len({r["sent"] for r in lines if "sent" in r} - {r["got"] for r in lines if "got" in r})


def kill_a_busy_worker(job, since):
    """Stop a worker that has a dialogue done and requests under way, count these, kill it. {"shard", "open"}."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for name, number in shards.workers(job, since).items():
            work = shards.work_path(job, name)
            if (work / "corpus.jsonl").exists() and (work / "corpus.jsonl").stat().st_size:
                os.kill(number, signal.SIGSTOP)
                open_ones = under_way(work / "corpus.requests.jsonl")
                os.kill(number, signal.SIGKILL)
                if open_ones:
                    return {"shard": name, "open": open_ones}
        time.sleep(0.01)
    return {}


def recorded(job):
    """All lines of the journals and failures of a job."""
    files = [shards.work_path(job, n) / file for n in shards.names(job) for file in ("corpus.jsonl", "failed.jsonl")]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_killed_worker_loses_nothing_and_pays_nothing_twice(ray, engine, tmp_path, capfd):
    model, counter = engine
    pool = seeds.sample([seed for name in seeds.BUNDLED for seed in seeds.load(name)], 12)
    shards.cut(pool, tmp_path, 4)
    before, deaths = counter.asked, []
    killer = threading.Thread(target=lambda: deaths.append(kill_a_busy_worker(tmp_path, time.time() - 1)))
    killer.start()
    made = shards.generate(tmp_path, model, settings=SHORT, concurrency=4)
    killer.join()

    assert deaths[0], "no worker was killed in the middle of its work"
    assert made["shards"] == 3 and shards.left(tmp_path) == []
    records = recorded(tmp_path)
    assert sorted(record["id"] for record in records) == sorted(seed.id for seed in pool), "each seed once"
    requests = sum(record["usage"]["requests"] for record in records)
    assert counter.asked - before - counter.twice == requests
    assert counter.twice <= deaths[0]["open"] <= 2
    dialogues = [dialogue for path in shards.results(tmp_path) for dialogue in corpus.stream(path)]
    done = {dialogue.id for dialogue in dialogues}
    assert [d.id for d in dialogues] == [seed.id for seed in pool if seed.id in done], "in the order of the seeds"
    assert len(dialogues) == made["dialogues"] and len(done) + made["failed"] == len(pool)

    after = counter.asked
    again = shards.generate(tmp_path, model, settings=SHORT)
    assert (again["shards"], again["kept"], counter.asked) == (0, 3, after), "nothing is asked again"
    assert "".join(capfd.readouterr()) == "", "Ray says nothing, not even of the death"
    with pytest.raises(CourseError, match="other settings"):
        shards.generate(tmp_path, model, settings=replace(SHORT, answer_tokens=25))


def test_a_shard_that_is_stopped_says_why_and_is_taken_up_again(ray, engine, tmp_path):
    model, _ = engine
    shards.cut([seeds.Seed(f"s{i}", "Why is the sky blue?", "test", "none") for i in range(1)], tmp_path, 1)
    with pytest.raises(CourseError, match=r"1 of 1 shards are not finished; 00000: Budget: .* Run this again"):
        shards.generate(tmp_path, model, settings=SHORT, budget=selfchat.Budget(tokens=10))
    assert shards.left(tmp_path) == ["00000"]
    seeds_file = shards.seeds_path(tmp_path, "00000")
    whole = seeds_file.read_bytes()
    seeds_file.write_bytes(whole[:100])
    with pytest.raises(CourseError, match=r"00000: .*00000\.parquet: not a Parquet file"):
        shards.generate(tmp_path, model, settings=SHORT)
    seeds_file.write_bytes(whole)
    assert shards.generate(tmp_path, model, settings=SHORT)["shards"] == 1
