"""Scaling without Ray: arithmetic, shards, the relay, sums of counts, training in several processes, and Ray not
installed."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import fields

import pytest
from endpoints import Answer, answering, completion, serving

from baize_nb import common, corpus, finetune, models, plots, profiles, scaling, seeds
from baize_nb.common import CourseError
from baize_nb.plots import scaling as figures
from baize_nb.scaling import arithmetic, pooled, relay, shards
from baize_nb.scaling.arithmetic import Endpoint, PerDialogue

PER = PerDialogue(requests=2, prompt_tokens=300, completion_tokens=100, bytes=1000)
SHIPPED = corpus.read(common.DATA / "corpus" / "corpus.jsonl")


def pool(n=7, start=0):
    return [seeds.Seed(f"s{i}", f"Question {i}?", "test", "none") for i in range(start, start + n)]


# Arithmetic


@pytest.mark.parametrize(
    ("limits", "name", "hours"),
    [
        ({"requests_per_minute": 100}, "requests a minute", 2000 / 100 / 60),
        ({"requests_per_day": 500}, "requests a day", 4 * 24),
        ({"tokens_per_minute": 1000}, "tokens a minute", 400_000 / 1000 / 60),
        ({"written_per_second": 10}, "tokens written", 100_000 / 10 / 3600),
        ({"queued_tokens": 100_001}, "batch queue", 3 * 24),
        ({}, "none", 0),
    ],
)
def test_each_limit_takes_its_time(limits, name, hours):
    per = arithmetic.per_dialogue(SHIPPED)
    assert per.prompt_tokens == sum(d.usage["prompt_tokens"] for d in SHIPPED) / len(SHIPPED)
    assert per.bytes * len(SHIPPED) == (common.DATA / "corpus" / "corpus.jsonl").stat().st_size
    plan = arithmetic.plan(1000, PER, Endpoint("x", **limits))
    assert plan.limit == name and plan.longest == pytest.approx(hours)


def test_the_slowest_limit_decides_rent_is_paid_until_the_end_and_figures_mark_it():
    endpoint = Endpoint("x", (1.0, 2.0), 3.0, written_per_second=10, tokens_per_minute=1000)
    plan = arithmetic.plan(1000, PER, endpoint)
    assert plan.limit == "tokens a minute" and plan.longest == pytest.approx(400 / 60)
    assert plan.usd == pytest.approx(0.3 * 1 + 0.1 * 2 + 3 * 400 / 60)
    said = [arithmetic.duration(hours) for hours in (0.5, 1, 47, 96, 2 * 8760)]
    assert said == ["30 minutes", "1.0 hours", "47.0 hours", "4.0 days", "2.0 years"]
    row = arithmetic.table([plan]).iloc[0]
    assert (row["requests"], row["tokens in"], row["dollars"], row["time"]) == ("2,000", "300,000", "20", "6.7 hours")
    ways = [Endpoint("a", requests_per_minute=1, tokens_per_minute=1000), Endpoint("b", (1.0, 1.0), queued_tokens=1e6)]
    plans = [arithmetic.plan(n, PER, way) for way in ways for n in (100, 10_000)]
    assert plots.png(figures.cost(plans))
    [ax] = figures.limits([plan for plan in plans if plan.dialogues == 100]).axes
    assert [text.get_text().strip() for text in ax.texts] == ["3.3 h  ← decides", "0.7 h", "24.0 h  ← decides"]
    assert arithmetic.space(115_000, PER)["JSON lines, on disk"] == 115e6


# Shards


def test_seeds_are_cut_once_and_a_cut_that_was_interrupted_goes_on(tmp_path):
    assert shards.cut(pool(), tmp_path, 3) == ["00000", "00001", "00002"] == shards.left(tmp_path)
    shards.seeds_path(tmp_path, "00001").unlink()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seeds/*")}
    assert shards.cut(pool(9), tmp_path / "more", 3) == shards.cut(pool(), tmp_path, 3) == shards.names(tmp_path)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert [seed for name in shards.names(tmp_path) for seed in seeds.read(shards.seeds_path(tmp_path, name))] == pool()
    assert len(shards.cut(pool(12), tmp_path / "more", 3)) == 4, "a full one may grow"
    for other, size in ((pool(8), 3), (pool(7, start=1), 3), (pool(), 4), (pool(12), 3)):
        with pytest.raises(CourseError, match="of other seeds, or of another size"):
            shards.cut(other, tmp_path, size)


def test_a_shard_is_done_when_its_file_is_there_whole_and_until_then_its_worker_is_known(tmp_path):
    shards.cut(pool(), tmp_path, 3)
    for name, number in (("00000", 11), ("00001", 12)):
        common.write_text(shards.work_path(tmp_path, name) / "worker", str(number))
    done = shards.result_path(tmp_path, "00001")
    done.parent.mkdir()
    done.with_name(".00000.parquet.x7k2").write_bytes(b"half")
    corpus.write_parquet(SHIPPED[:2], done)
    assert shards.left(tmp_path) == ["00000", "00002"] and shards.results(tmp_path) == [done]
    assert shards.workers(tmp_path, since=0) == {"00000": 11}
    assert shards.workers(tmp_path, since=time.time() + 5) == {}


# Sums


def test_counts_of_files_add_up_to_those_of_the_corpus():
    tokenizer, few = models.load_tokenizer(), SHIPPED[::3]
    merged = pooled.merge([corpus.measure(part, tokenizer) for part in (few[:20], few[20:21], few[21:])])
    whole = corpus.measure(few, tokenizer)
    for field in fields(whole):
        if field.name != "growth":
            assert getattr(merged, field.name) == getattr(whole, field.name), field.name
    assert corpus.stats(merged).equals(corpus.stats(whole))
    assert list(merged.first_words) == list(whole.first_words), "equal counts keep their order too"


# Relay


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


async def echo(path, body):
    return Answer(completion(f"{path} {body['n']}"))


def test_a_relay_passes_on_and_counts_and_hands_on_faults():
    with serving(echo) as url, relay.counting(url) as counter:
        said = [post(f"{counter.url}/completions", {"n": n})["choices"][0]["text"] for n in (1, 2, 1, 1)]
    assert said == [f"/v1/completions {n}" for n in (1, 2, 1, 1)]
    assert (counter.asked, counter.twice) == (4, 2)
    refused = pytest.raises(urllib.error.HTTPError, match="429")
    with answering(429, '{"error": "slow"}') as url, relay.counting(url) as counter, refused:
        post(f"{counter.url}/completions", {})
    with relay.counting("http://127.0.0.1:1/v1") as counter, pytest.raises(urllib.error.HTTPError, match="502"):
        post(f"{counter.url}/completions", {})


@pytest.mark.parametrize("body", [b"", b'{"n": '])
def test_a_relay_does_not_count_who_was_killed_in_mid_sentence(body):
    with serving(echo) as url, relay.counting(url) as counter:
        with socket.create_connection(("127.0.0.1", int(counter.url.split(":")[2].split("/")[0])), timeout=20) as line:
            line.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n" + body)
            line.shutdown(socket.SHUT_WR)
            assert line.recv(1) == b"", "the relay hung up, and said nothing"
        post(f"{counter.url}/completions", {"n": 1})
    assert (counter.asked, counter.twice) == (1, 0)


# Training in several processes

LAUNCHER = [sys.executable, "-m", "accelerate.commands.launch"]


@pytest.fixture
def told(small_base, tmp_path):
    """Arguments of `baize_nb.finetune`: five short dialogues, and a small base model."""
    short = [d for d in SHIPPED if d.turns == 1]
    # One held-out dialogue: the other process looks at a blank row, or the first would wait for it for ever.
    found = ["--train", corpus.write(short[:4], tmp_path / "t.jsonl")]
    found += ["--heldout", corpus.write(short[4:5], tmp_path / "h.jsonl"), "--base", small_base]
    return [*map(str, found), "--out", str(tmp_path / "adapter")]


def start(config, target, told, *options):
    command = [*LAUNCHER, "--config_file", str(scaling.LAUNCH / config), *options, *target, *told]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)


@pytest.mark.skipif(sys.platform == "win32", reason="torch's launcher needs libuv, which its Windows builds lack")
def test_two_machines_train_together_by_the_shipped_settings(told, tmp_path):
    """Two launchers, as on two machines, that meet by the loopback address: a process each, as notebook 08 says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    nodes = ["--num_machines", "2", "--num_processes", "2"]
    nodes += ["--main_process_ip", "127.0.0.1", "--main_process_port", port]
    target = ["-m", "baize_nb.finetune"]
    runs = [start("ddp.yaml", target, told, *nodes, "--machine_rank", str(n)) for n in (0, 1)]
    try:
        (first, faults), (second, more) = [run.communicate(timeout=120) for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], faults[-2000:] + more[-2000:]
    notes = json.loads((tmp_path / "adapter.manifest.json").read_text())["run"]
    assert (notes["processes"], notes["steps"]) == (2, 2)
    assert first.count("Adapter in") == 1 and second == "", "one process speaks"


# accelerate shares weights among GPUs only. This makes it do the same among processors, with torch's own FSDP, and
# says what part of all numbers each process holds.
SHARED = """
import sys
from dataclasses import replace

from accelerate import state
from accelerate.utils import DistributedType

from baize_nb import profiles
from baize_nb.finetune import training
from baize_nb.finetune.__main__ import main

profiles.PROFILES["ci"] = replace(profiles.get("ci"), learning_rate=0.02, warmup_steps=0, epochs=3)
begin, whole = state.AcceleratorState.__init__, training.whole_weights


def shared(self, *args, fsdp_plugin=None, **kwargs):
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def counted(model):
    held = [(p.to_local() if hasattr(p, "to_local") else p).numel() for p in model.parameters()]
    print("holds", sum(held), file=sys.stderr)
    return whole(model)


state.AcceleratorState.__init__, training.whole_weights = shared, counted
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="torch's launcher needs libuv, which its Windows builds lack")
def test_two_processes_share_the_weights_and_write_a_whole_adapter(told, small_base, tmp_path):
    (tmp_path / "start.py").write_text(SHARED)
    run = start("fsdp.yaml", [str(tmp_path / "start.py")], told)
    _, said = run.communicate(timeout=200)
    assert run.returncode == 0, said[-3000:]
    model, tokenizer = models.load(small_base, adapter=tmp_path / "adapter")
    # Each process says it at each checkpoint, in no fixed order; at the first one it has gathered the least.
    held = sorted(int(line.split()[1]) for line in said.splitlines() if line.startswith("holds"))
    half = sum(p.numel() for p in model.parameters()) / 2
    assert held[:2] == [pytest.approx(half, rel=0.01)] * 2 and max(held) < 1.6 * half, "each has half of the weights"
    notes = json.loads((tmp_path / "adapter.manifest.json").read_text())["run"]
    assert (notes["processes"], notes["steps"]) == (2, 6) and notes["loss_after"] < notes["loss_before"] - 0.1
    loss = finetune.heldout_loss(model, corpus.read(tmp_path / "h.jsonl"), tokenizer, profiles.get("ci").max_length)
    assert loss == pytest.approx(notes["loss_after"], abs=1e-4), "what was put together is what was trained"


# Without Ray

BLOCKED = """
import sys
sys.modules["ray"] = None
from baize_nb import scaling
from baize_nb.common import CourseError
from baize_nb.scaling import arithmetic, pooled, relay, shards
assert not scaling.has_ray() and "torch" not in sys.modules
for use in (scaling.need_ray, lambda: pooled.clean(["x"], "y"), lambda: shards.generate("x", None)):
    try:
        use()
    except CourseError as error:
        assert "pip install" in str(error) and "[scale]" in str(error)
        print("said")
"""


def test_without_ray_the_rest_is_there_and_what_needs_it_says_so():
    run = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "said\n" * 3), run.stderr
