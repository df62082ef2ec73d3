"""What a run will take (parameters, the paper's memory, a measured peak) and what the machine has."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from baize_nb import common, corpus, finetune, models, profiles
from baize_nb.common import CourseError
from baize_nb.finetune import memory

LAPTOP = profiles.get("laptop")
PAPER = {"paper-7b": (6.7, 17.9, 26), "paper-13b": (13.0, 28.0, 25), "paper-30b": (32.5, 54.6, 42)}
MEASURE = """
import resource, sys
from pathlib import Path
from dataclasses import replace
from baize_nb import finetune, profiles
from baize_nb.corpus import Dialogue

micro, limit = int(sys.argv[1]), int(sys.argv[2])
profile = replace(profiles.get("ci"), micro_batch_size=micro, batch_size=micro, max_length=limit, eval_steps=100)
said = [{"role": "user", "content": "word " * (limit // 4)}, {"role": "assistant", "content": "and so on " * limit}]
dialogues = [Dialogue(id=str(i), messages=said) for i in range(micro)]
finetune.train(dialogues, dialogues[:1], out=sys.argv[3], profile=profile)
status = Path("/proc/self/status")  # on Linux, the number that getrusage has begins with the parent's
peak = status.read_text().split("VmHWM:")[1].split()[0] if status.exists() else 0
print(1024 * int(peak) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def taken(profile=LAPTOP, dialogues=(), **changes):
    return finetune.needs(replace(profile, **changes), dialogues, speed=1e11)


@pytest.mark.parametrize("name", PAPER)
def test_parameters_and_memory_are_those_of_the_paper(name):
    billions, millions, gigabytes = PAPER[name]
    found = taken(profiles.get(name), dtype="float32")
    lora = found.parts["LoRA, its gradient and optimizer"] / 16
    assert (round(found.parts["base model"] / 4e9, 1), round(lora / 1e6, 1)) == (billions, millions)
    assert taken(profiles.get(name)).memory == pytest.approx(gigabytes * 1e9, rel=0.15)


def test_parameters_are_those_of_the_model_and_shapes_come_from_a_folder_too(base):
    model, parts = base[0], taken(rank=8).parts
    numbers = sum(p.numel() for name, p in model.named_parameters() if "norm" not in name)
    assert parts["base model"] == 4 * numbers
    found = [m for name, m in model.named_modules() if name.split(".")[-1] in LAPTOP.targets]
    assert parts["LoRA, its gradient and optimizer"] == 16 * 8 * sum(m.out_features + m.in_features for m in found)
    assert taken(base=str(models.embedded())) == taken()
    with pytest.raises(CourseError, match="are not known"):
        taken(base="some/hub-id")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts a process's peak in another way")
def test_memory_is_what_a_real_run_takes_within_a_quarter(tmp_path):
    micro, limit = 2, 224
    command = [sys.executable, "-c", MEASURE, str(micro), str(limit), str(tmp_path / "adapter")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=200)
    assert ended.returncode == 0, ended.stderr
    predicted = taken(profiles.get("ci"), micro_batch_size=micro, max_length=limit).memory
    assert predicted == pytest.approx(int(ended.stdout.split()[-1]), rel=0.25)


def test_memory_and_minutes_grow_with_what_they_should(tokenizer):
    usual, paper = taken(), profiles.get("paper-7b")
    assert usual.memory == sum(usual.parts.values()) and str(usual).startswith(f"{usual.memory / 1e9:.1f} GB of memory")
    more = {"micro_batch_size": 4, "max_length": 1024, "rank": 64, "loss_on": "all"}
    more["targets"] = (*LAPTOP.targets, "o_proj")
    for name, value in more.items():
        assert taken(**{name: value}).memory > usual.memory, name
    assert taken(paper, dtype="int4").memory < taken(paper).memory - 3e9
    assert finetune.needs(LAPTOP, speed=2e11).minutes == pytest.approx(usual.minutes / 2)
    assert 1.5 * usual.minutes < taken(epochs=2).minutes < 2 * usual.minutes and finetune.needs(LAPTOP).minutes > 0
    # The corpus's own lengths are estimated from its text.
    dialogues = corpus.read(common.DATA / "corpus/train.jsonl")
    rows = finetune.encode_all(dialogues, tokenizer, LAPTOP.max_length).rows
    lengths = [len(row["input_ids"]) for row in rows]
    same = taken(seeds=len(rows) + LAPTOP.heldout, max_length=2 * round(sum(lengths) / len(rows)))
    found = taken(dialogues=dialogues)
    assert found.minutes == pytest.approx(same.minutes, rel=0.1) and found.memory < usual.memory


def test_predicting_loads_no_torch():
    code = "import sys; from baize_nb import finetune, profiles; finetune.needs(profiles.current())"
    code += "; print({'torch', 'transformers'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_too_little_memory_names_what_to_change(monkeypatch):
    needed = taken().memory - memory.PROGRAM
    for share, processes, fits in ((1.01, 1, True), (0.99, 1, False), (1.5, 2, False)):
        monkeypatch.setattr(memory, "memory_gib", lambda free=share * needed / memory.GIB: (64, free))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))  # each has a part of it
        memory.check_memory(replace(LAPTOP, base="some/unknown-model"))
        if fits:
            memory.check_memory(LAPTOP)
            continue
        with pytest.raises(CourseError, match=r"\d\.\d GiB are free: .* halve micro_batch_size"):
            memory.check_memory(LAPTOP)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Four cores allowed here, of which `idle(n)` says how many are idle; a container's files are those in tmp_path."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    return lambda idle: monkeypatch.setattr(psutil, "cpu_percent", lambda _: 100 * (1 - idle / 8))


def test_busy_cores_are_left_alone_and_a_container_and_other_processes_limit_them(machine, tmp_path, monkeypatch):
    for idle, most, cores in ((8, 8, 4), (3.9, 8, 4), (2.2, 8, 2), (0, 8, 1), (8, 3, 3)):
        machine(idle)
        assert memory.free_cores(most) == cores
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert memory.free_cores(8) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.free_cores(8) == 2


def test_memory_is_that_of_the_container_where_it_has_less(machine, tmp_path):
    total, free = memory.memory_gib()
    assert 0 < free < total
    half = {"max": f"{2**29}", "current": f"{2**29}", "stat": f"anon 5\ninactive_file {2**28}\n"}
    for name, text in half.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.memory_gib() == (0.5, 0.25)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.memory_gib()[0] == total
