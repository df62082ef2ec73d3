"""What is found before the first step of a training run, and what the machine is asked."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from smalltalk import DIALOGUES, TINY

from baize_nb import finetune, profiles
from baize_nb.common import CourseError
from baize_nb.finetune import forecast, hardware, preflight, training


@pytest.fixture(scope="module")
def lora(base):
    return training.add_lora(base[0], TINY)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return finetune.encode_all(DIALOGUES, tokenizer, 96).rows


def check(model, rows, folder):
    preflight.check(model, rows, 2, micro=2, out=folder / "adapter")


def test_a_run_that_can_end_well_is_let_through(lora, rows, tmp_path):
    check(lora, rows, tmp_path)


def test_too_little_memory_is_found_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "free_memory", lambda: 0.1)
    with pytest.raises(CourseError, match=r"about \d+\.\d GiB of memory and 0\.1 GiB are free"):
        finetune.train(DIALOGUES, DIALOGUES[:1], out=tmp_path / "adapter", profile=TINY)
    assert list(tmp_path.iterdir()) == []


def test_too_little_disk(lora, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(CourseError, match=r"need 0\.02 GiB, and .* has 0\.00 GiB free"):
        check(lora, rows, tmp_path)


def test_a_dialogue_longer_than_the_context(lora, rows, tmp_path, monkeypatch):
    longest = max(len(row["input_ids"]) for row in rows)
    monkeypatch.setattr(lora.config, "max_position_embeddings", longest)
    check(lora, rows, tmp_path)
    monkeypatch.setattr(lora.config, "max_position_embeddings", longest - 1)
    with pytest.raises(CourseError, match=f"has {longest} tokens, .* set max_length in the profile to {longest - 1}"):
        check(lora, rows, tmp_path)


def test_a_loss_that_is_no_number(lora, rows, tmp_path):
    weight = next(p for name, p in lora.named_parameters() if "down_proj.base_layer" in name)
    kept = weight.data[0, 0].item()
    weight.data[0, 0] = float("inf")
    try:
        with pytest.raises(CourseError, match="The loss before the first step is nan"):
            check(lora, rows, tmp_path)
    finally:
        weight.data[0, 0] = kept


def test_what_checkpoints_take(lora):
    assert preflight.trained_bytes(lora) == 4 * sum(p.numel() for p in lora.parameters() if p.requires_grad)


def test_memory_names_the_setting_to_change(monkeypatch):
    profile = replace(profiles.get("laptop"), micro_batch_size=8)
    needs = forecast.needs(profile, speed=1)
    fewer = forecast.needs(replace(profile, micro_batch_size=1), speed=1)
    between = (needs.memory + fewer.memory) / 2 - needs.parts["program"]
    monkeypatch.setattr(hardware, "free_memory", lambda: between / hardware.GIB)
    with pytest.raises(CourseError, match=r"or set micro_batch_size to [124] in the profile"):
        preflight.memory(profile, "embedded", [])
    preflight.memory(replace(profile, micro_batch_size=1), "embedded", [])
    preflight.memory(profile, "some/unknown-model", [])


def test_code_of_a_model_is_never_run():
    files = list(Path(finetune.__file__).parents[1].rglob("*.py"))
    assert len(files) > 50
    assert [file.name for file in files if "trust_remote_code" in file.read_text(encoding="utf-8")] == []


# --- the machine


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Files in which Linux says what cores do: four cores allowed here, of which `stat` says how many are idle."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    ticks = iter((1000, 1000))
    monkeypatch.setattr(hardware, "_idle_ticks", lambda _: next(ticks))
    files = SimpleNamespace(stat=tmp_path / "stat", quota=tmp_path / "cpu.max")
    files.stat.write_text("cpu 0 0 0 1000 0\n")

    def idle(cores):
        nonlocal ticks
        ticks = iter((1000, 1000 + cores * 0.01 * hardware.os.sysconf("SC_CLK_TCK")))

    files.idle = idle
    return files


@pytest.mark.parametrize("idle, cores", [(4, 4), (3.9, 4), (2.2, 2), (0, 1)])
def test_busy_cores_are_left_alone(machine, idle, cores):
    machine.idle(idle)
    assert hardware.free_cores(8, 0.01, machine.stat, machine.quota) == cores


def test_cores_are_limited_by_torch_by_the_container_and_shared_by_processes(machine, monkeypatch):
    machine.idle(4)
    assert hardware.free_cores(3, 0.01, machine.stat, machine.quota) == 3
    machine.idle(4)
    machine.quota.write_text("200000 100000\n")
    assert hardware.free_cores(8, 0.01, machine.stat, machine.quota) == 2
    machine.quota.write_text("max 100000\n")
    machine.idle(4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert hardware.free_cores(8, 0.01, machine.stat, machine.quota) == 2


def test_where_the_system_does_not_say_all_cores_count_as_free(machine):
    machine.stat.unlink()
    assert hardware.free_cores(8, 0.01, machine.stat, machine.quota) == 4


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with hardware.computing_with(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_memory_of_a_container(tmp_path):
    for name, text in (("max", f"{3 * 2**30}"), ("current", f"{2**30}"), ("stat", f"anon 5\ninactive_file {2**29}\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    free = hardware.free_memory(tmp_path)
    assert free == min(2.5, hardware.free_memory(tmp_path / "none") or 2.5)
