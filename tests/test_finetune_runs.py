"""Fine-tuning: whole runs, interrupted ones, what is found before the first step, and a dialogue learned by heart."""

import json
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from disks import disk_full_after
from smalltalk import DIALOGUES, TINY, chat, dialogue
from transformers import TrainerState

from baize_nb import common, finetune, models
from baize_nb.common import CourseError
from baize_nb.finetune import hardware, saving, training
from baize_nb.finetune.watching import Watching


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / saving.WEIGHTS)


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Always as many: how busy the machine is must not decide the last bits of runs that are compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "free_cores", lambda most: most)
        yield


# Dropout on: an interrupted run must go on with the random numbers where it stopped.
TWO_EPOCHS = replace(TINY, epochs=2, dropout=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A whole run of four steps, what it warned, and what its `on_step` was given."""
    out, seen = tmp_path_factory.mktemp("run") / "adapter", []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run = finetune.train(DIALOGUES, DIALOGUES[:2], out=out, profile=TWO_EPOCHS, on_step=seen.append)
    return run, warned, seen


def test_run_says_what_happened(trained):
    run = trained[0]
    assert run.steps == 4 and [step for step, _ in run.history] == [1, 2, 3, 4]
    assert [step for step, _ in run.heldout] == [0, 2, 4]
    assert (run.loss_before, run.loss_after) == (run.heldout[0][1], run.heldout[-1][1])
    assert run.loss_after < run.loss_before
    assert run.tokens == 2 * finetune.encode_all(DIALOGUES, models.load_tokenizer(), 96).tokens


def test_a_run_is_seen_while_it_goes_on(trained):
    run, _, seen = trained
    assert [s.step for s in seen] == [0, 1, 2, 2, 3, 4, 4] and {s.steps for s in seen} == {4}
    assert seen[0].speed is None and all(s.speed > 0 and s.left >= 0 for s in seen[1:])
    assert (seen[-1].history, seen[-1].heldout, seen[-1].left) == (run.history, run.heldout, 0)


def test_lines_say_loss_speed_and_time_left(capsys):
    state, watching = TrainerState(max_steps=4), Watching()
    said = follow(watching, state, capsys)
    assert said.err == "" and re.fullmatch(
        r"step   0 of 4 · held-out loss 2\.500 · 0 s\n"
        r"step   1 of 4 · training loss 2\.250 · 0 s · \d+ tokens/s · 0 s left\n",
        said.out,
    )


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    said = follow(Watching(), TrainerState(max_steps=4), capsys)
    assert "step   0 of 4 · held-out loss 2.500" in said.out and "training loss" not in said.out
    assert "1/4" in said.err and re.search(r"loss 2\.250, \d+ tokens/s", said.err)


def follow(watching, state, capsys):
    """What is printed when Trainer tells of a look at held-out data, and of one step on 50 tokens."""
    state.is_world_process_zero = True
    watching.on_train_begin(None, state, None)
    watching.on_log(None, state, None, logs={"eval_loss": 2.5})
    watching.on_step_begin(None, state, None)
    state.global_step, state.num_input_tokens_seen = 1, 50
    watching.on_step_end(None, state, None)
    watching.on_log(None, state, None, logs={"loss": 2.25})
    watching.close()
    return capsys.readouterr()


def test_training_is_quiet(trained):
    assert [str(w.message) for w in trained[1] if issubclass(w.category, FutureWarning | UserWarning)] == []


def test_adapter_loads_and_gives_the_recorded_loss(trained):
    run = trained[0]
    model, tokenizer = models.load(adapter=run.adapter)
    assert finetune.heldout_loss(model, DIALOGUES[:2], tokenizer, 96) == pytest.approx(run.loss_after, abs=1e-4)


def test_base_loss_is_the_loss_before(trained, base):
    assert finetune.heldout_loss(base[0], DIALOGUES[:2], base[1], 96) == pytest.approx(trained[0].loss_before, abs=1e-4)


def test_files_name_no_path_of_this_machine(trained):
    run = trained[0]
    assert sorted(p.name for p in run.adapter.iterdir()) == ["adapter_config.json", saving.WEIGHTS]
    assert sorted(p.name for p in run.adapter.parent.iterdir()) == ["adapter", "adapter.manifest.json"]
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"{models.NAME} (embedded)"
    manifest = (run.adapter.parent / "adapter.manifest.json").read_text()
    assert str(Path.home()) not in manifest + json.dumps(config) and str(run.adapter.parent) not in manifest
    assert json.loads(manifest)["settings"]["learning_rate"] == TINY.learning_rate
    assert json.loads(manifest)["run"]["threads"] == run.threads > 0


def test_same_recipe_is_not_trained_twice(trained, capsys, monkeypatch):
    run = trained[0]
    monkeypatch.setattr(models, "load", lambda *a, **k: pytest.fail("it trained again"))
    again = finetune.train(DIALOGUES, DIALOGUES[:2], out=run.adapter, profile=TWO_EPOCHS)
    assert again == run
    assert "Already trained" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["data", "settings", "manifest", "weights"])
def test_another_recipe_is_not_taken_for_the_same(trained, tmp_path, change):
    run = trained[0]
    profile, data = TWO_EPOCHS, DIALOGUES
    out = tmp_path / "adapter"
    out.mkdir()
    (out / saving.WEIGHTS).write_bytes(b"")
    manifest = tmp_path / "adapter.manifest.json"
    manifest.write_text((run.adapter.parent / "adapter.manifest.json").read_text())
    assert saving.finished(out, saving.recipe(data, data[:2], "embedded", profile)) is not None
    if change == "data":
        data = [*DIALOGUES[:3], dialogue("What do bees eat?", "Nectar.")]
    elif change == "settings":
        profile = replace(profile, rank=4)
    elif change == "manifest":
        manifest.write_text(manifest.read_text()[:-50])
    else:
        (out / saving.WEIGHTS).unlink()
    assert saving.finished(out, saving.recipe(data, DIALOGUES[:2], "embedded", profile)) is None


@pytest.mark.parametrize("at", [1, 3], ids=["first epoch", "second epoch"])
def test_interrupted_run_ends_with_the_same_bits_as_an_unbroken_one(trained, tmp_path, monkeypatch, capsys, at):
    out = tmp_path / "adapter"

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watching, "on_step_begin", interrupt)
        with pytest.raises(CourseError, match=rf"Interrupted at step {at}; .*checkpoint-{at} is kept: run this again"):
            finetune.train(DIALOGUES, DIALOGUES[:2], out=out, profile=TWO_EPOCHS)
    assert not out.exists()
    torn = tmp_path / "adapter.checkpoints/checkpoint-9"  # as a kill in the middle of writing leaves it
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')

    run = finetune.train(DIALOGUES, DIALOGUES[:2], out=out, profile=TWO_EPOCHS)
    assert "Going on from" in capsys.readouterr().out
    whole = trained[0]
    assert (run.history, run.heldout) == (whole.history, whole.heldout)
    expected = weights(whole.adapter)
    assert [name for name, tensor in weights(out).items() if not torch.equal(tensor, expected[name])] == []
    assert not (tmp_path / "adapter.checkpoints").exists()


def left_a_checkpoint(folder):
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2/trainer_state.json").write_text('{"global_step": 2}')


def test_checkpoints_of_other_settings_are_not_used(tmp_path, capsys):
    folder = tmp_path / "adapter.checkpoints"
    saving.prepare(folder, {"base": "a"})
    left_a_checkpoint(folder)
    saving.prepare(folder, {"base": "a"})
    assert "Going on" in capsys.readouterr().out and saving.last_checkpoint(folder) == folder / "checkpoint-2"
    saving.prepare(folder, {"base": "b"})
    assert "starting anew" in capsys.readouterr().out and not (folder / "checkpoint-2").exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    wild = replace(TINY, learning_rate=1e30)
    with pytest.raises(CourseError, match="Lower learning_rate"):
        finetune.train(DIALOGUES, DIALOGUES[:1], out=tmp_path / "adapter", profile=wild)
    assert not (tmp_path / "adapter").exists()


def test_a_run_that_goes_on_computes_with_as_many_threads_and_the_same_numbers(tmp_path):
    folder = tmp_path / "adapter.checkpoints"
    saving.prepare(folder, {"base": "a"}, threads=7, dtype="bfloat16")
    assert saving.noted(folder, {"base": "a"}) is None  # nothing to go on from yet
    left_a_checkpoint(folder)
    saving.prepare(folder, {"base": "a"}, threads=1, dtype="float32")
    assert saving.noted(folder, {"base": "a"}) == {"threads": 7, "dtype": "bfloat16"}
    assert saving.noted(folder, {"base": "b"}) is None


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(CourseError, match="batch_size 2 can't be shared evenly by 3 processes"):
        training._shares(TINY)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert training._shares(replace(TINY, batch_size=8, micro_batch_size=3)) == (2, 2)  # each process has 4


def test_targets_that_the_model_lacks_are_named(base):
    with pytest.raises(CourseError, match="targets"):
        training.add_lora(base[0], replace(TINY, targets=("no_such_layer",)))


@pytest.mark.parametrize("size", [1_000_000, 3_000_000], ids=["weights", "optimizer"])
def test_full_disk_at_a_checkpoint_is_said(tmp_path, size):
    with disk_full_after(size), pytest.raises(CourseError, match="Could not write a checkpoint"):
        finetune.train(DIALOGUES[1:2], DIALOGUES[1:2], out=tmp_path / "adapter", profile=TINY)
    assert saving.last_checkpoint(tmp_path / "adapter.checkpoints") is None


def test_full_disk_leaves_the_old_adapter(base, tmp_path):
    lora = training.add_lora(base[0], TINY)
    out = tmp_path / "adapter"
    out.mkdir()
    (out / "old").write_text("still here")
    with disk_full_after(10_000), pytest.raises(CourseError, match="Free some space"):
        saving.save_adapter(lora, out, "embedded")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
    assert (out / "old").read_text() == "still here"
    saving.save_adapter(lora, out, "embedded")
    assert not (out / "old").exists() and (out / saving.WEIGHTS).stat().st_size > 1_000_000


def test_a_folder_is_named_without_its_path(tmp_path):
    assert saving.base_name(str(tmp_path)) == tmp_path.name
    assert saving.base_name("some/hub-id") == "some/hub-id"


def test_learns_one_dialogue_by_heart_and_stops(tmp_path):
    texts = ("What do bees eat?", "Nectar and pollen, and on Sundays a tiny tea cake.")
    profile = replace(TINY, rank=8, epochs=16, batch_size=1, micro_batch_size=1, learning_rate=3e-3, eval_steps=16)
    run = finetune.train([dialogue(*texts)], [dialogue(*texts)], out=tmp_path / "adapter", profile=profile)
    model, tokenizer = models.load(adapter=run.adapter)
    prompt = torch.tensor([finetune.encode_prompt(chat(texts[0]), tokenizer)])
    reply = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)[0]
    assert tokenizer.decode(reply[prompt.shape[1] :]) == f" {texts[1]}{tokenizer.eos_token}"


def test_manifest_names_the_files_the_dialogues_came_from(tmp_path):
    source = tmp_path / "train.jsonl"
    source.write_text("x\n")
    run = finetune.Run(tmp_path / "adapter", 2.0, 1.0, [(1, 2.0)], [(0, 2.0), (1, 1.0)], 1, 10, 0.5)
    wanted = saving.recipe(DIALOGUES, DIALOGUES[:1], "embedded", TINY)
    saving.save_manifest(run, wanted, {}, [source])
    manifest = json.loads((tmp_path / "adapter.manifest.json").read_text())
    assert manifest["sources"] == [{"path": "train.jsonl", "sha256": common.sha256(source)}]
    assert manifest["data"]["train"]["dialogues"] == 4
