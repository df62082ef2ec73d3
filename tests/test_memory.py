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


def talk(words, id="d"):
    return Dialogue(
        id=id, messages=[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "because " * words}]
    )


# --- parameters


@pytest.mark.parametrize("name", PAPER)
def test_parameters_are_those_of_the_paper(name):
    billions, millions, _ = PAPER[name]
    profile = profiles.get(name)
    shape = memory.shapes(profile.base)
    assert round((shape.linear + shape.embedding) / 1e9, 1) == billions
    assert round(shape.lora(profile.targets, profile.rank) / 1e6, 1) == millions


def test_parameters_are_those_of_the_embedded_model(base):
    shape, model = memory.shapes("embedded"), base[0]
    everything = sum(p.numel() for p in model.parameters())
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert shape.linear + shape.embedding == everything - norms
    found = [m for name, m in model.named_modules() if name.split(".")[-1] in LAPTOP.targets]
    assert shape.lora(LAPTOP.targets, 8) == sum(8 * (m.out_features + m.in_features) for m in found)


def test_shapes_come_from_a_folder_too(tmp_path):
    assert memory.shapes(str(models.embedded())) == memory.shapes("embedded")
    for name in ("some/hub-id", str(tmp_path)):
        with pytest.raises(CourseError, match="are not known"):
            memory.shapes(name)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CourseError, match="hidden_size"):
        memory.shapes(str(tmp_path))


def test_every_profile_can_be_predicted():
    for profile in profiles.PROFILES.values():
        found = finetune.needs(profile, speed=1e11)
        assert found.memory == sum(found.parts.values()) > 1e9 and min(found.parts.values()) > 0 and found.disk > 1e8
        assert (found.minutes is None) == (found.place == "GPU") == (profile.dtype in memory.GPU_ONLY)
        assert ("of a GPU" in str(found)) == (found.place == "GPU")


# --- memory


@pytest.mark.parametrize("name", PAPER)
def test_memory_is_that_of_the_paper_within_fifteen_percent(name):
    assert finetune.needs(profiles.get(name)).memory == pytest.approx(PAPER[name][2] * 1e9, rel=0.15)


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


def test_short_dialogues_take_less_than_the_limit_allows():
    short, long = (finetune.needs(LAPTOP, [talk(words)] * 4, speed=1e11) for words in (20, 5000))
    assert short.memory < long.memory and short.minutes < long.minutes
    assert long.parts["kept for the gradient"] == finetune.needs(LAPTOP, speed=1e11).parts["kept for the gradient"]


def test_tokens_are_estimated_from_the_text(tokenizer):
    dialogues = corpus.read(common.DATA / "corpus/train.jsonl")
    encoded = finetune.encode_all(dialogues, tokenizer, LAPTOP.max_length)
    lengths, learned = memory._lengths(LAPTOP, dialogues)
    assert sum(lengths) == pytest.approx(encoded.tokens, rel=0.1)
    right = sum(label != finetune.IGNORE for row in encoded.rows for label in row["labels"]) / encoded.tokens
    assert learned == pytest.approx(right, abs=0.06) and pytest.approx(right, abs=0.05) == memory.LEARNED


# --- minutes and disk


def test_minutes_grow_with_the_work_and_shrink_with_the_speed():
    usual = finetune.needs(LAPTOP, speed=1e11).minutes
    assert finetune.needs(LAPTOP, speed=2e11).minutes == pytest.approx(usual / 2)
    assert 1.5 * usual < finetune.needs(replace(LAPTOP, epochs=2), speed=1e11).minutes < 2 * usual
    assert finetune.needs(LAPTOP, [talk(60)] * 2000, speed=1e11).minutes > usual


def test_speed_is_measured_where_it_is_not_given():
    assert finetune.needs(LAPTOP).minutes > 0


def test_predicting_loads_no_torch():
    code = (
        "import sys; from baize_nb import finetune; finetune.needs(); print({'torch', 'transformers'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_disk_holds_the_checkpoints_of_a_real_run():
    """An adapter and its optimizer's state, which is twice as large, in the sizes that files have."""
    lora = memory.shapes("embedded").lora(LAPTOP.targets, LAPTOP.rank)
    shipped = (common.DATA / "adapter/adapter_model.safetensors").stat().st_size
    assert 4 * lora == pytest.approx(shipped, rel=0.02)
    own = replace(LAPTOP, base=str(models.embedded()))
    assert finetune.needs(own, speed=1e11).disk == pytest.approx(7 * shipped, rel=0.02)
    files = sum(file.stat().st_size for file in [models.gguf(), models.embedded() / "model.safetensors"])
    assert finetune.needs(LAPTOP, speed=1e11).disk == pytest.approx(7 * shipped + files, rel=0.02)


# --- what to change


def test_the_first_setting_to_change_is_the_micro_batch():
    usual = finetune.needs(LAPTOP, speed=1e11).memory
    assert memory.smaller_settings(LAPTOP, usual) == {}
    assert memory.smaller_settings(LAPTOP, usual - 1) == {"micro_batch_size": 1}
    single = replace(LAPTOP, micro_batch_size=1)
    less = finetune.needs(single, speed=1e11).memory - 1
    assert memory.smaller_settings(LAPTOP, less) == {"micro_batch_size": 1, "max_length": 256}
    assert memory.smaller_settings(LAPTOP, 1e9) is None


def test_a_quantized_base_can_go_down_to_four_bits():
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
    assert memory.gpu_bytes() == is_


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Four cores allowed here, of which `idle(n)` says how many are idle; a container's files are those in tmp_path."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    return lambda idle: monkeypatch.setattr(psutil, "cpu_percent", lambda _: 100 * (1 - idle / 8))


@pytest.mark.parametrize(("idle", "cores"), [(8, 4), (3.9, 4), (2.2, 2), (0, 1)])
def test_busy_cores_are_left_alone(machine, idle, cores):
    machine(idle)
    assert memory.free_cores(8) == cores


def test_cores_are_limited_by_torch_by_the_container_and_shared_by_processes(machine, tmp_path, monkeypatch):
    machine(8)
    assert memory.free_cores(3) == 3
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
