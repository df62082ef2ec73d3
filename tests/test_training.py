"""Training: whole runs, interrupted and killed ones, two processes, bfloat16, and a dialogue learned by heart."""

import io
import json
import os
import random
import re
import subprocess
import sys
import time
import warnings
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from disks import disk_full_after
from smalltalk import DIALOGUES, TINY, chat, dialogue, program

from baize_nb import common, corpus, finetune, models
from baize_nb.common import CourseError
from baize_nb.finetune import fast_lora, memory, training
from baize_nb.finetune.__main__ import main

SECONDS = 120  # of a machine that is busy; a process takes a tenth of it, one that hangs takes for ever
# Dropout on: a run that goes on must draw the random numbers where it stopped.
TWO_EPOCHS = replace(TINY, epochs=2, dropout=0.1, learning_rate=0.005)
# Three dialogues in steps of four: of two processes, one gets a blank row. No dropout: each would draw its own.
PROFILE = replace(TINY, batch_size=4, micro_batch_size=1, epochs=12, eval_steps=4)


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Always as many: how busy the machine is must not decide the last bits of runs that are compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "free_cores", lambda most: most)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A whole run of four steps on the embedded model, what it warned and printed, and the steps of its `on_step`."""
    out, seen, printed = tmp_path_factory.mktemp("run") / "adapter", [], io.StringIO()
    with warnings.catch_warnings(record=True) as warned, redirect_stdout(printed):
        warnings.simplefilter("always")
        looking = {"on_step": lambda run: seen.append(run.step)}
        run = finetune.train(DIALOGUES, DIALOGUES[:2], out=out, profile=TWO_EPOCHS, **looking)
    return run, warned, printed.getvalue(), seen


def test_a_run_says_what_happened_while_it_goes_on_and_is_quiet(trained, base):
    (run, warned, printed, seen), (model, tokenizer) = trained, base
    assert (run.step, run.steps) == (4, 4) and [step for step, _ in run.history] == [1, 2, 3, 4]
    assert [step for step, _ in run.heldout] == [0, 2, 4] and seen == [0, 1, 2, 2, 3, 4, 4]
    rows = finetune.encode_all(DIALOGUES, tokenizer, 96).rows
    assert run.tokens == 2 * sum(len(row["input_ids"]) for row in rows)
    assert [str(w.message) for w in warned if issubclass(w.category, FutureWarning | UserWarning)] == []
    steps = [line for line in printed.splitlines() if line.startswith("step")]
    assert re.fullmatch(r"step   0 of 4 · held-out loss \d+\.\d{3}", steps[0]) and len(steps) == 7
    assert re.fullmatch(r"step   4 of 4 · training loss \d+\.\d{3} · 0 s left", steps[-2])
    # The losses that it recorded are those of base and adapter.
    assert (run.loss_before, run.loss_after) == (run.heldout[0][1], run.heldout[-1][1])
    assert finetune.heldout_loss(model, DIALOGUES[:2], tokenizer, 96) == pytest.approx(run.loss_before, abs=1e-4)
    tuned, _ = models.load(adapter=run.adapter)
    assert finetune.heldout_loss(tuned, DIALOGUES[:2], tokenizer, 96) == pytest.approx(run.loss_after, abs=1e-4)
    assert run.loss_after < run.loss_before


def test_files_say_how_it_was_made_and_name_no_path_of_this_machine(trained):
    run = trained[0]
    assert sorted(p.name for p in run.adapter.iterdir()) == ["adapter_config.json", training.WEIGHTS]
    assert sorted(p.name for p in run.adapter.parent.iterdir()) == ["adapter", "adapter.manifest.json"]
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"{models.NAME} (embedded)"
    manifest = common.manifest_path(run.adapter).read_text()
    assert str(Path.home()) not in manifest + json.dumps(config) and str(run.adapter.parent) not in manifest
    notes = json.loads(manifest)
    assert notes["settings"]["learning_rate"] == TWO_EPOCHS.learning_rate and notes["run"]["threads"] == run.threads > 0
    assert notes["data"]["train"]["dialogues"] == 4


def test_same_recipe_is_not_trained_twice_and_another_one_is_not_taken_for_it(trained, monkeypatch, capsys):
    run, manifest = trained[0], common.manifest_path(trained[0].adapter)
    monkeypatch.setattr(models, "load", lambda *a, **k: pytest.fail("it trains again"))
    assert finetune.train(DIALOGUES, DIALOGUES[:2], out=run.adapter, profile=TWO_EPOCHS) == run
    assert "Already trained" in capsys.readouterr().out
    shipped = training.finished(common.DATA / "adapter", {"base": "embedded"})  # by an earlier version
    assert shipped.loss_after < shipped.loss_before
    for data, profile in ((DIALOGUES[:3], TWO_EPOCHS), (DIALOGUES, replace(TWO_EPOCHS, rank=4))):
        assert training.finished(run.adapter, training.recipe(data, DIALOGUES[:2], "embedded", profile)) is None
    wanted = training.recipe(DIALOGUES, DIALOGUES[:2], "embedded", TWO_EPOCHS)
    manifest.write_text(manifest.read_text()[:-50])
    assert training.finished(run.adapter, wanted) is None


def interrupted(small_base, out, at, profile=TWO_EPOCHS):
    """A run that Ctrl-C stops when the training loss of step `at` is said; the checkpoint before is kept."""

    def stop(seen):
        if seen.history and seen.history[-1][0] == at:
            raise KeyboardInterrupt

    with pytest.raises(CourseError, match=f"Interrupted at step {at}. Run this again"):
        finetune.train(DIALOGUES, DIALOGUES[:2], small_base, out, profile, on_step=stop)
    assert not out.exists()
    return out.with_name(out.name + ".checkpoints")


@pytest.fixture(scope="module")
def unbroken(small_base, tmp_path_factory):
    return finetune.train(DIALOGUES, DIALOGUES[:2], small_base, tmp_path_factory.mktemp("whole") / "a", TWO_EPOCHS)


def test_interrupted_run_ends_with_the_same_bits_as_an_unbroken_one(unbroken, small_base, tmp_path, capsys):
    for at in (2, 4):  # in the first epoch and in the second
        out = tmp_path / str(at)
        checkpoints = interrupted(small_base, out, at)
        assert [path.name for path in checkpoints.iterdir()] == [f"checkpoint-{at - 1}.pt"]
        (checkpoints / "checkpoint-9.pt").write_bytes(b"torn")
        run = finetune.train(DIALOGUES, DIALOGUES[:2], small_base, out, TWO_EPOCHS)
        assert "Going on from" in capsys.readouterr().out and not checkpoints.exists()
        assert (run.history, run.heldout, run.tokens) == (unbroken.history, unbroken.heldout, unbroken.tokens)
        assert (out / training.WEIGHTS).read_bytes() == (unbroken.adapter / training.WEIGHTS).read_bytes()


def test_a_checkpoint_of_the_version_before_is_gone_on_from_and_one_of_other_settings_is_not(
    unbroken, small_base, tmp_path, capsys
):
    out = tmp_path / "adapter"
    checkpoint = interrupted(small_base, out, 3) / "checkpoint-2.pt"
    state = torch.load(checkpoint, weights_only=True)
    state["seen"] |= {"speed": 12.5, "left": 3.0}  # as in November 2026
    torch.save(state, checkpoint)
    run = finetune.train(DIALOGUES, DIALOGUES[:2], small_base, out, TWO_EPOCHS)
    assert (run.history, run.heldout) == (unbroken.history, unbroken.heldout)
    checkpoints = interrupted(small_base, tmp_path / "other", 2)
    capsys.readouterr()
    interrupted(small_base, tmp_path / "other", 2, replace(TWO_EPOCHS, rank=4))
    assert "Going on from" not in capsys.readouterr().out
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-1.pt"]


def test_training_in_bfloat16_goes_on_as_it_began(small_base, tmp_path, monkeypatch, capsys):
    assert 0.001 < fast_lora.bfloat16_speedup(seconds=0.05) < 100  # it really computes
    auto, runs = replace(TWO_EPOCHS, dtype="auto", epochs=8), {}
    for ratio, dtype in ((1.1, "float32"), (1.3, "bfloat16")):  # it has to be worth it
        monkeypatch.setattr(fast_lora, "bfloat16_speedup", lambda found=ratio: found)
        runs[dtype] = finetune.train(DIALOGUES, DIALOGUES[:2], small_base, tmp_path / dtype, auto)
        assert runs[dtype].dtype == dtype
    half, exact = runs["bfloat16"], runs["float32"]
    assert half.loss_before == pytest.approx(exact.loss_before, abs=0.02)
    assert exact.loss_before - exact.loss_after > 1 and half.loss_after == pytest.approx(exact.loss_after, abs=0.05)

    interrupted(small_base, tmp_path / "broken", 5, auto)
    monkeypatch.setattr(fast_lora, "bfloat16_speedup", lambda: 0.5)  # another look would choose otherwise
    monkeypatch.setattr(memory, "free_cores", lambda most: most + 3)
    resumed = finetune.train(DIALOGUES, DIALOGUES[:2], small_base, tmp_path / "broken", auto)
    assert (resumed.dtype, resumed.threads) == ("bfloat16", half.threads)
    assert (resumed.adapter / training.WEIGHTS).read_bytes() == (half.adapter / training.WEIGHTS).read_bytes()
    model, _ = models.load(small_base, adapter=resumed.adapter)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_what_spoils_a_run_is_said_and_leaves_no_adapter(small_base, tmp_path, monkeypatch):
    def train(profile):
        finetune.train(DIALOGUES, DIALOGUES[:1], small_base, tmp_path / "adapter", profile)

    with pytest.raises(CourseError, match=r"loss at step \d+ is .* Lower learning_rate"):
        train(replace(TINY, learning_rate=1e30))
    with pytest.raises(CourseError, match="Change `targets`"):
        train(replace(TINY, targets=("no_such_layer",)))
    monkeypatch.setattr(memory, "memory_gib", lambda: (8, 0.0))
    with pytest.raises(CourseError, match=r"GiB of memory and 0\.0 GiB are free"):
        train(replace(TINY, dropout=0.5))
    assert not (tmp_path / "adapter").exists()


def test_full_disk_is_said_and_leaves_what_was_there(small_base, tmp_path):
    def full(run):  # after the last checkpoint
        if run.heldout[-1][0] == run.steps:
            limits.enter_context(disk_full_after(6_000))

    out = tmp_path / "adapter"
    out.mkdir()
    (out / "old").write_text("still here")
    with disk_full_after(20_000), pytest.raises(CourseError, match=r"Could not write .*checkpoint-1\.pt"):
        finetune.train(DIALOGUES, DIALOGUES[:1], small_base, out, TINY)
    with ExitStack() as limits, pytest.raises(CourseError, match="Free some space"):
        finetune.train(DIALOGUES, DIALOGUES[:1], small_base, out, TINY, on_step=full)
    assert [p.name for p in out.iterdir()] == ["old"]
    finetune.train(DIALOGUES, DIALOGUES[:1], small_base, out, TINY)
    assert not (out / "old").exists() and (out / training.WEIGHTS).stat().st_size > 6_000


def test_code_of_a_model_is_never_run():
    files = list(Path(common.__file__).parent.rglob("*.py"))
    assert len(files) > 30
    assert [file.name for file in files if "trust_remote_code" in file.read_text(encoding="utf-8")] == []


def test_learns_one_dialogue_by_heart_and_stops(tmp_path):
    texts = ("What do bees eat?", "Nectar and pollen, and on Sundays a tiny tea cake.")
    profile = replace(TINY, rank=8, epochs=12, batch_size=1, micro_batch_size=1, learning_rate=4e-3, eval_steps=100)
    run = finetune.train([dialogue(*texts)], [dialogue(*texts)], out=tmp_path / "adapter", profile=profile)
    model, tokenizer = models.load(adapter=run.adapter)
    prompt = torch.tensor([finetune.encode_prompt(chat(texts[0]), tokenizer)])
    reply = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)[0]
    assert tokenizer.decode(reply[prompt.shape[1] :]) == f" {texts[1]}{tokenizer.eos_token}"


@pytest.fixture
def command(small_base, tmp_path):
    """Program and arguments that train by PROFILE on three dialogues, but for --out."""
    corpus.write(DIALOGUES[:3], tmp_path / "train.jsonl")
    corpus.write(DIALOGUES[2:], tmp_path / "heldout.jsonl")
    (tmp_path / "start.py").write_text(program(__name__))
    files = ["--train", tmp_path / "train.jsonl", "--heldout", tmp_path / "heldout.jsonl", "--base", small_base]
    return [*map(str, [tmp_path / "start.py", *files, "--out"])]


def start(arguments, launcher=()):
    # As many threads in each: how busy the machine is must not decide the last bits.
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *launcher, *map(str, arguments)], env=environment, **pipes)


def finish(process):
    """What it printed until it ended by itself."""
    said, faults = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, faults[-3000:]
    return said


def test_a_killed_run_ends_with_the_same_bits_as_an_unbroken_one(command, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start([*command, whole]))
    checkpoints, rng = tmp_path / "broken.checkpoints", random.Random(0)
    for _ in range(2):
        process, former, end = start([*command, broken]), set(checkpoints.glob("*")), time.monotonic() + SECONDS
        while not {path for path in checkpoints.glob("*") if path not in former}:  # it writes one, or just did
            assert process.poll() is None and time.monotonic() < end, "it ended, or wrote no checkpoint"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.communicate()
        assert process.returncode != 0 and not (broken / training.WEIGHTS).exists()
    assert "held-out loss" in finish(start([*command, broken]))
    assert (broken / training.WEIGHTS).read_bytes() == (whole / training.WEIGHTS).read_bytes()
    assert not checkpoints.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="torch's launcher needs libuv, which its Windows builds lack")
def test_two_processes_end_with_the_losses_of_one(command, small_base, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    printed = finish(start([*command, tmp_path / "two"], launcher))
    one = finetune.train(DIALOGUES[:3], DIALOGUES[2:], small_base, tmp_path / "one", PROFILE)
    two = json.loads((tmp_path / "two.manifest.json").read_text())["run"]
    assert two["steps"] == one.steps == 12 and two["tokens"] == one.tokens
    assert (two["processes"], one.processes) == (2, 1)
    for name in ("history", "heldout"):
        found, expected = two[name], getattr(one, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-4), name
    assert one.loss_after < one.loss_before
    assert printed.count("held-out loss") == len(one.heldout) + 1 and printed.count("Adapter in") == 1
    assert not (tmp_path / "two.checkpoints").exists()
    from safetensors.torch import load_file

    # Adam makes a step of a gradient's sign: where a gradient is nothing but rounding, it may go either way.
    found, expected = (load_file(folder / training.WEIGHTS) for folder in (tmp_path / "two", one.adapter))
    apart = sum(int((tensor - expected[name]).abs().gt(1e-4).sum()) for name, tensor in found.items())
    assert found.keys() == expected.keys() and apart < 0.005 * sum(tensor.numel() for tensor in found.values())


def test_what_is_wrong_is_said_in_a_sentence(tmp_path, capsys):
    assert main(["--train", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
