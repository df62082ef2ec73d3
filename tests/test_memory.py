"""What a run will take (parameters, the paper's memory, a measured peak, what to change) and what the machine has."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from baize_nb import common, corpus, finetune, models, profiles
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue
from baize_nb.finetune import memory

LAPTOP = profiles.get("laptop")
GPU_BYTES = memory.gpu_bytes
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


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(memory, "gpu_bytes", lambda: 0)


@pytest.mark.parametrize("name", PAPER)
def test_parameters_and_memory_are_those_of_the_paper(name):
    billions, millions, gigabytes = PAPER[name]
    profile = profiles.get(name)
    linear, embedding, lora = memory.shapes(profile.base).sizes(profile.targets, profile.rank)
    assert (round((linear + embedding) / 1e9, 1), round(lora / 1e6, 1)) == (billions, millions)
    assert finetune.needs(profile).memory == pytest.approx(gigabytes * 1e9, rel=0.15)


def test_parameters_are_those_of_the_model_and_shapes_come_from_a_folder_too(base, tmp_path):
    model, (linear, embedding, lora) = base[0], memory.shapes("embedded").sizes(LAPTOP.targets, 8)
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert linear + embedding == sum(p.numel() for p in model.parameters()) - norms
    found = [m for name, m in model.named_modules() if name.split(".")[-1] in LAPTOP.targets]
    assert lora == sum(8 * (m.out_features + m.in_features) for m in found)
    assert memory.shapes(str(models.embedded())) == memory.shapes("embedded")
    (tmp_path / "config.json").write_text("{}")
    for name, fault in (("some/hub-id", "are not known"), (str(tmp_path), "hidden_size")):
        with pytest.raises(CourseError, match=fault):
            memory.shapes(name)


def test_every_profile_can_be_predicted_and_the_device_decides_where_it_runs(monkeypatch):
    for profile in profiles.PROFILES.values():
        found = finetune.needs(profile, speed=1e11)
        assert found.memory == sum(found.parts.values()) > 1e9 and min(found.parts.values()) > 0 and found.disk > 1e8
        assert (found.minutes is None) == (found.place == "GPU") == (profile.dtype in memory.GPU_ONLY)
        assert ("of a GPU" in str(found)) == (found.place == "GPU")
    large = replace(profiles.get("paper-7b"), dtype="bfloat16", micro_batch_size=1)
    monkeypatch.setattr(memory, "free_gib", lambda: 4)
    with pytest.raises(CourseError, match=r"and 4\.0 GiB are free"):
        memory.check_memory(large, [])
    with pytest.raises(CourseError, match=r"and 4\.0 GiB are free"):  # not let through for its dtype
        memory.check_memory(replace(large, dtype="float16"), [])
    monkeypatch.setattr(memory, "gpu_bytes", lambda: 80 * 2**30)
    assert finetune.needs(large).place == "GPU"
    memory.check_memory(large, [])
    with pytest.raises(CourseError, match=r"and 80\.0 GiB are free.*micro_batch_size"):
        memory.check_memory(replace(large, micro_batch_size=64), [])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts a process's peak in another way")
def test_memory_is_what_a_real_run_takes_within_a_quarter(tmp_path):
    micro, limit = 2, 224
    command = [sys.executable, "-c", MEASURE, str(micro), str(limit), str(tmp_path / "adapter")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=200)
    assert ended.returncode == 0, ended.stderr
    profile = replace(profiles.get("ci"), micro_batch_size=micro, max_length=limit)
    assert finetune.needs(profile, speed=1e11).memory == pytest.approx(int(ended.stdout.split()[-1]), rel=0.25)


def test_memory_grows_with_what_it_should():
    def taken(**changes):
        return finetune.needs(replace(LAPTOP, **changes), speed=1e11).memory

    usual = taken()
    for changes in (
        {"micro_batch_size": 4},
        {"max_length": 1024},
        {"rank": 64},
        {"loss_on": "all"},
        {"targets": (*LAPTOP.targets, "o_proj")},
    ):
        assert taken(**changes) > usual, changes
    assert taken(dropout=0.0) < usual
    paper = profiles.get("paper-7b")
    assert finetune.needs(replace(paper, dtype="int4")).memory < finetune.needs(paper).memory - 3e9


def test_tokens_are_estimated_from_the_text(tokenizer):
    dialogues = corpus.read(common.DATA / "corpus/train.jsonl")
    encoded = finetune.encode_all(dialogues, tokenizer, LAPTOP.max_length)
    lengths, learned = memory._lengths(LAPTOP, dialogues)
    assert sum(lengths) == pytest.approx(encoded.tokens, rel=0.1)
    right = sum(label != finetune.IGNORE for row in encoded.rows for label in row["labels"]) / encoded.tokens
    assert learned == pytest.approx(right, abs=0.06) and pytest.approx(right, abs=0.05) == memory.LEARNED


def test_memory_and_minutes_grow_with_the_work():
    def talks(words, number=4):
        said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "because " * words}]
        return finetune.needs(LAPTOP, [Dialogue(id="d", messages=said)] * number, speed=1e11)

    usual, short, long = finetune.needs(LAPTOP, speed=1e11), talks(20), talks(5000)
    assert short.memory < long.memory and short.minutes < long.minutes and talks(60, 2000).minutes > usual.minutes
    assert long.parts["kept for the gradient"] == usual.parts["kept for the gradient"]
    assert finetune.needs(LAPTOP, speed=2e11).minutes == pytest.approx(usual.minutes / 2)
    twice = finetune.needs(replace(LAPTOP, epochs=2), speed=1e11).minutes
    assert 1.5 * usual.minutes < twice < 2 * usual.minutes and finetune.needs(LAPTOP).minutes > 0


def test_predicting_loads_no_torch():
    code = (
        "import sys; from baize_nb import finetune; finetune.needs(); print({'torch', 'transformers'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_disk_holds_the_checkpoints_of_a_real_run():
    """An adapter and its optimizer's state, which is twice as large, in the sizes that files have."""
    shipped = (common.DATA / "adapter/adapter_model.safetensors").stat().st_size
    own = replace(LAPTOP, base=str(models.embedded()))
    assert finetune.needs(own, speed=1e11).disk == pytest.approx(7 * shipped, rel=0.02)
    files = sum(file.stat().st_size for file in [models.gguf(), models.embedded() / "model.safetensors"])
    assert finetune.needs(LAPTOP, speed=1e11).disk == pytest.approx(7 * shipped + files, rel=0.02)


def test_the_first_setting_to_change_is_the_micro_batch_the_last_one_four_bits():
    usual = finetune.needs(LAPTOP, speed=1e11).memory
    assert memory.smaller_settings(LAPTOP, usual) == {}
    assert memory.smaller_settings(LAPTOP, usual - 1) == {"micro_batch_size": 1}
    less = finetune.needs(replace(LAPTOP, micro_batch_size=1), speed=1e11).memory - 1
    assert memory.smaller_settings(LAPTOP, less) == {"micro_batch_size": 1, "max_length": 256}
    assert memory.smaller_settings(LAPTOP, 1e9) is None
    found = memory.smaller_settings(profiles.get("paper-30b"), 24e9)
    assert list(found) == ["micro_batch_size", "max_length", "dtype"] and found["dtype"] == "int4"


def test_too_little_memory_names_the_setting_to_change(monkeypatch):
    profile = replace(LAPTOP, micro_batch_size=8)
    most, least = finetune.needs(profile, speed=1), finetune.needs(replace(profile, micro_batch_size=1), speed=1)
    between = (most.memory + least.memory) / 2 - most.parts["program"]
    monkeypatch.setattr(memory, "free_gib", lambda: between / memory.GIB)
    with pytest.raises(CourseError, match=r"or set micro_batch_size to [124] in the profile"):
        memory.check_memory(profile, [])
    memory.check_memory(replace(profile, micro_batch_size=1), [])
    memory.check_memory(replace(profile, base="some/unknown-model"), [])
    memory.check_memory(replace(profile, base="some/unknown-model"), [])
    monkeypatch.setattr(memory, "free_gib", lambda: 1.5 * (least.memory - least.parts["program"]) / memory.GIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each has half of it
    with pytest.raises(CourseError, match="GiB are free"):
        memory.check_memory(replace(profile, micro_batch_size=1), [])


# --- what the machine has


@pytest.mark.skipif(sys.platform == "win32", reason="a program that is a script")
@pytest.mark.parametrize(("says", "is_"), [("16384\n81920", 2**34), ("", 0), ("No devices were found", 0)])
def test_memory_of_a_gpu_is_what_its_driver_says(tmp_path, monkeypatch, says, is_):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint({says!r})\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert GPU_BYTES.__wrapped__() == is_
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert GPU_BYTES.__wrapped__() == 0


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Four cores allowed here, of which `idle(n)` says how many are idle; a container's files are those in tmp_path."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    return lambda idle: monkeypatch.setattr(psutil, "cpu_percent", lambda _: 100 * (1 - idle / 8))


def test_busy_cores_are_left_alone_torch_and_the_container_limit_them_and_processes_share_them(
    machine, tmp_path, monkeypatch
):
    for idle, most, cores in ((8, 8, 4), (3.9, 8, 4), (2.2, 8, 2), (0, 8, 1), (8, 3, 3)):
        machine(idle)
        assert memory.free_cores(most) == cores
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert memory.free_cores(8) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.free_cores(8) == 2


def test_memory_is_that_of_the_container_where_it_has_less(machine, tmp_path, monkeypatch):
    total, free = memory.total_gib(), memory.free_gib()
    assert 0 < free < total
    half = {"max": f"{2**29}", "current": f"{2**29}", "stat": f"anon 5\ninactive_file {2**28}\n"}
    for name, text in half.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert (memory.total_gib(), memory.free_gib()) == (0.5, 0.25)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_gib() == total
