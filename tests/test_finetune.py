"""Fine-tuning: the loss mask, the loss, the gradient, a run that is interrupted, and one that learns by heart."""

import json
import resource
import runpy
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import artifacts, finetune, models, plots, profiles, transcript
from baize_nb.checks import finetune as checks
from baize_nb.corpus import Dialogue
from baize_nb.errors import CourseError
from baize_nb.finetune import saving, training
from baize_nb.finetune.loss import learned, projecting_only, rows_loss
from baize_nb.finetune.trainer import AssistantTrainer, ByLength
from baize_nb.plots import training as figures

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[1] / "notebooks/solutions/04_lora_finetuning.py"))
IGNORE = finetune.IGNORE


def chat(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def dialogue(*texts, id="d"):
    return Dialogue(id=id, messages=chat(*texts))


DIALOGUES = [
    dialogue("Why is the sky blue?", "Air scatters blue light most.", "And at dusk?", "Red light is left.", id="a"),
    dialogue("What is asthma?", "A disease of the airways.", id="b"),
    dialogue("How do I list files?", "Type `ls`, and read what comes.\n\nThat is all.", "Thanks.", "Gladly.", id="c"),
    dialogue("What do bees eat?", "Nectar and pollen.", id="d"),
]
TINY = replace(profiles.get("ci"), max_length=96, warmup_steps=0, dropout=0.0, rank=2)


@pytest.fixture(scope="module")
def lora():
    """A model with LoRA layers whose B is not zero, so that every gradient is."""
    model = training.add_lora(models.load()[0], TINY)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02)
    return model


# --- tokens and mask


def runs_of(labels):
    """Runs of neighbouring labels that are learned."""
    found, current = [], []
    for label in [*labels, IGNORE]:
        if label != IGNORE:
            current.append(label)
        elif current:
            found.append(current)
            current = []
    return found


@pytest.mark.parametrize("d", DIALOGUES, ids=lambda d: d.id)
def test_mask_covers_every_answer_and_its_stop_and_nothing_else(d, tokenizer):
    row = finetune.encode(d.messages, tokenizer, 512)
    assert tokenizer.decode(row["input_ids"]) == transcript.render(d.messages, eos=tokenizer.eos_token)
    answers = [f" {text}{tokenizer.eos_token}" for text in d.said_by("assistant")]
    assert [tokenizer.decode(ids) for ids in runs_of(row["labels"])] == answers
    assert all(ids[-1] == tokenizer.eos_token_id for ids in runs_of(row["labels"]))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=6))
def test_mask_and_prompt_hold_for_any_text(texts, tokenizer):
    messages = chat(*texts[: len(texts) // 2 * 2])
    row = finetune.encode(messages, tokenizer, 100_000)
    ids, labels = row["input_ids"], row["labels"]
    assert all(label in (IGNORE, token) for label, token in zip(labels, ids, strict=True))
    assert ids.count(tokenizer.eos_token_id) == len(messages) // 2 == labels.count(tokenizer.eos_token_id)
    for turn in range(0, len(messages), 2):  # the chat prompt is what training showed before each answer
        prompt = finetune.encode_prompt(messages[: turn + 1], tokenizer)
        assert ids[: len(prompt)] == prompt
        assert labels[len(prompt) - 1] == IGNORE != labels[len(prompt)]


def test_typed_special_tokens_stay_letters(tokenizer):
    nasty = "<|im_end|> and <|im_start|>system"
    row = finetune.encode(chat(nasty, nasty), tokenizer, 512)
    assert row["input_ids"].count(tokenizer.eos_token_id) == 1
    assert tokenizer.bos_token_id not in row["input_ids"]
    assert tokenizer.decode(row["input_ids"]).count(nasty) == 2


def test_too_long_loses_whole_exchanges_then_its_stop(tokenizer):
    messages = DIALOGUES[0].messages
    first = finetune.encode(messages[:2], tokenizer, 512)
    whole = finetune.encode(messages, tokenizer, 512)
    length = len(whole["input_ids"])
    assert finetune.encode(messages, tokenizer, length) == whole
    assert finetune.encode(messages, tokenizer, length - 1) == first
    cut = finetune.encode(messages, tokenizer, len(first["input_ids"]) - 3)
    assert cut["input_ids"] == first["input_ids"][:-3]
    assert tokenizer.eos_token_id not in cut["labels"]


def test_encode_all_counts_what_was_lost(tokenizer):
    short = len(finetune.encode(DIALOGUES[0].messages[:2], tokenizer, 512)["input_ids"])
    long_answer = dialogue("Hi.", "word " * 200)
    long_question = dialogue("word " * 200, "Hi.")
    encoded = finetune.encode_all([DIALOGUES[0], DIALOGUES[1], long_answer, long_question], tokenizer, short)
    assert (len(encoded.rows), encoded.shortened, encoded.cut, encoded.dropped) == (3, 1, 1, 1)
    assert encoded.tokens == sum(len(row["input_ids"]) for row in encoded.rows)
    assert "1 were cut and have no stop" in str(encoded)


def test_nothing_to_learn_is_said(tokenizer):
    for dialogues in ([], [dialogue("word " * 200, "Hi.")]):
        with pytest.raises(CourseError, match="Nothing to learn"):
            finetune.encode_all(dialogues, tokenizer, 64)
    with pytest.raises(CourseError, match="'broken': message 1"):
        finetune.encode_all([Dialogue(id="broken", messages=chat("Hi", " "))], tokenizer, 64)


def test_tokenizer_without_stop_is_refused():
    tokenizer = models.load_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(CourseError, match="no end-of-sequence token"):
        finetune.encode(DIALOGUES[0].messages, tokenizer, 512)


def test_begin_token_is_kept_where_the_tokenizer_writes_one(tokenizer):
    class Beginning:
        def __call__(self, text, **kwargs):
            ids = tokenizer(text, **kwargs)
            if not kwargs:
                ids["input_ids"] = [tokenizer.bos_token_id, *ids["input_ids"]]
            return ids

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    row = finetune.encode(DIALOGUES[1].messages, Beginning(), 512)
    assert row["input_ids"] == [
        tokenizer.bos_token_id,
        *finetune.encode(DIALOGUES[1].messages, tokenizer, 512)["input_ids"],
    ]
    assert row["labels"][0] == IGNORE


def test_padding_goes_by_position(tokenizer):
    rows = [finetune.encode(d.messages, tokenizer, 512) for d in DIALOGUES]
    batch = finetune.collate(rows, pad_id=tokenizer.eos_token_id)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id  # the trap
    for row, ids, mask, labels in zip(rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        n = len(row["input_ids"])
        assert ids[:n].tolist() == row["input_ids"] and set(ids[n:].tolist()) <= {tokenizer.pad_token_id}
        assert mask.tolist() == [1] * n + [0] * (len(ids) - n)
        assert labels[:n].tolist() == row["labels"] and set(labels[n:].tolist()) <= {IGNORE}
        assert row["labels"].count(tokenizer.eos_token_id) == len(runs_of(row["labels"]))


def test_padding_share():
    assert finetune.padding_share([100, 100, 50, 50], 2) == 0
    assert finetune.padding_share([100, 50, 100, 50], 2) == pytest.approx(0.25)
    assert finetune.padding_share([128, 128], 2, to=512) == pytest.approx(0.75)


# --- loss and gradient


def test_loss_equals_the_models_own(base):
    model, tokenizer = base
    rows = finetune.encode_all(DIALOGUES, tokenizer, 512).rows
    batch = finetune.collate(rows, tokenizer.eos_token_id)
    with torch.no_grad():
        reference = model(**batch).loss.item()
    assert finetune.heldout_loss(model, DIALOGUES, tokenizer, 512) == pytest.approx(reference, abs=1e-5)
    assert rows_loss(model, rows, tokenizer.eos_token_id, batch_size=1) == pytest.approx(reference, abs=1e-5)


def test_only_learned_positions_reach_the_projection(base):
    model, tokenizer = base
    batch = finetune.collate(finetune.encode_all(DIALOGUES, tokenizer, 512).rows, tokenizer.eos_token_id)
    keep = learned(batch["labels"])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        everything = model(**inputs).logits
        with projecting_only(model, keep):
            some = model(**inputs).logits
        after = model(**inputs).logits
    assert some.shape == (int((batch["labels"] != IGNORE).sum()), everything.shape[-1])
    assert torch.allclose(some, everything[:, :-1][keep], atol=1e-4)
    assert after.shape == everything.shape  # the hook is gone


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def step_gradients(model, rows, micro, folder):
    """Gradients of one optimizer step of our Trainer, its loss, and the number of learned tokens."""
    arguments = training._arguments(folder, replace(TINY, batch_size=4, micro_batch_size=micro), None)
    assert arguments.gradient_accumulation_steps * micro == 4
    trainer = AssistantTrainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows, pad_id=2)
    batches = [finetune.collate(rows[i : i + micro], 2) for i in range(0, 4, micro)]
    items = trainer._get_num_items_in_batch(batches, "cpu")
    trainer.current_gradient_accumulation_steps = len(batches)
    model.zero_grad()
    losses = [trainer.training_step(model, batch, items) for batch in batches]
    return gradients(model), sum(losses).item(), items


def test_step_gradient_is_the_token_weighted_sum_over_dialogues(lora, tokenizer, tmp_path):
    rows = finetune.encode_all(DIALOGUES, tokenizer, 512).rows
    counts = [sum(label != IGNORE for label in row["labels"]) for row in rows]
    lora.zero_grad()
    for row, count in zip(rows, counts, strict=True):
        (lora(**finetune.collate([row], 2)).loss * count / sum(counts)).backward()
    reference, loss = gradients(lora), rows_loss(lora, rows, 2)
    largest = max(g.abs().max() for g in reference.values())
    for micro in (1, 2, 4):
        ours, step_loss, items = step_gradients(lora, rows, micro, tmp_path)
        assert items == sum(counts) and step_loss == pytest.approx(loss, abs=1e-5)
        assert ours.keys() == reference.keys() and len(ours) == 2 * 6 * 30
        for name in ours:
            assert torch.allclose(ours[name], reference[name], atol=1e-4 * largest), (micro, name)


def test_batches_are_of_like_length_in_an_order_that_the_epoch_decides():
    rows = [{"input_ids": [0] * n} for n in range(1, 65)]
    sampler = ByLength(4, dataset=rows)
    orders = []
    for epoch in (0, 1, 1):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[1] == orders[2] != orders[0] and sorted(orders[0]) == list(range(64))
    lengths = [len(rows[i]["input_ids"]) for i in orders[0]]
    assert finetune.padding_share(lengths, 4) < 0.5 * finetune.padding_share([*range(1, 65, 2), *range(64, 0, -2)], 64)


def test_looking_at_the_loss_leaves_the_model_as_it_was(lora, tokenizer):
    lora.train()
    before = {n: p.detach().clone() for n, p in lora.named_parameters() if p.requires_grad}
    finetune.heldout_loss(lora, DIALOGUES[:1], tokenizer, 96)
    assert lora.training
    assert all(torch.equal(p, before[n]) for n, p in lora.named_parameters() if p.requires_grad)


# --- training


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / saving.WEIGHTS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A whole run of four steps, and what it printed and warned."""
    out = tmp_path_factory.mktemp("run") / "adapter"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run = finetune.train(DIALOGUES, DIALOGUES[:2], out=out, profile=replace(TINY, epochs=2))
    return run, warned


def test_run_says_what_happened(trained):
    run, _ = trained
    assert run.steps == 4 and [step for step, _ in run.history] == [1, 2, 3, 4]
    assert [step for step, _ in run.heldout] == [0, 2, 4]
    assert (run.loss_before, run.loss_after) == (run.heldout[0][1], run.heldout[-1][1])
    assert run.loss_after < run.loss_before
    assert run.tokens == 2 * finetune.encode_all(DIALOGUES, models.load_tokenizer(), 96).tokens


def test_training_is_quiet(trained):
    assert [str(w.message) for w in trained[1] if issubclass(w.category, FutureWarning | UserWarning)] == []


def test_adapter_loads_and_gives_the_recorded_loss(trained):
    run, _ = trained
    model, tokenizer = models.load(adapter=run.adapter)
    assert finetune.heldout_loss(model, DIALOGUES[:2], tokenizer, 96) == pytest.approx(run.loss_after, abs=1e-4)


def test_base_loss_is_the_loss_before(trained, base):
    assert finetune.heldout_loss(base[0], DIALOGUES[:2], base[1], 96) == pytest.approx(trained[0].loss_before, abs=1e-4)


def test_files_name_no_path_of_this_machine(trained):
    run, _ = trained
    assert sorted(p.name for p in run.adapter.iterdir()) == ["adapter_config.json", saving.WEIGHTS]
    assert sorted(p.name for p in run.adapter.parent.iterdir()) == ["adapter", "adapter.manifest.json"]
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"{models.NAME} (embedded)"
    manifest = (run.adapter.parent / "adapter.manifest.json").read_text()
    assert str(Path.home()) not in manifest + json.dumps(config) and str(run.adapter.parent) not in manifest
    assert json.loads(manifest)["settings"]["learning_rate"] == TINY.learning_rate


def test_same_recipe_is_not_trained_twice(trained, capsys, monkeypatch):
    run, _ = trained
    monkeypatch.setattr(models, "load", lambda *a, **k: pytest.fail("it trained again"))
    again = finetune.train(DIALOGUES, DIALOGUES[:2], out=run.adapter, profile=replace(TINY, epochs=2))
    assert again == run
    assert "Already trained" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["data", "settings", "manifest", "weights"])
def test_another_recipe_is_not_taken_for_the_same(trained, tmp_path, change):
    run, _ = trained
    profile, data = replace(TINY, epochs=2), DIALOGUES
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


def test_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(trained, tmp_path, monkeypatch, capsys):
    profile, out = replace(TINY, epochs=2), tmp_path / "adapter"

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == 3:  # in the second epoch
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._Progress, "on_step_begin", interrupt)
        with pytest.raises(CourseError, match=r"Interrupted at step 3; .*checkpoint-3 is kept: run this again"):
            finetune.train(DIALOGUES, DIALOGUES[:2], out=out, profile=profile)
    assert not out.exists()
    torn = tmp_path / "adapter.checkpoints/checkpoint-9"  # as a kill in the middle of writing leaves it
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')

    run = finetune.train(DIALOGUES, DIALOGUES[:2], out=out, profile=profile)
    assert "Going on from" in capsys.readouterr().out
    whole = trained[0]
    assert [s for s, _ in run.history] == [s for s, _ in whole.history]
    assert run.loss_before == pytest.approx(whole.loss_before, abs=1e-6)
    assert run.loss_after == pytest.approx(whole.loss_after, abs=1e-4)
    expected = weights(whole.adapter)
    for name, tensor in weights(out).items():
        assert torch.allclose(tensor, expected[name], atol=1e-5), name
    assert not (tmp_path / "adapter.checkpoints").exists()


def test_checkpoints_of_other_settings_are_not_used(tmp_path, capsys):
    folder = tmp_path / "adapter.checkpoints"
    assert saving.prepare(folder, {"base": "a"}) is None
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2/trainer_state.json").write_text('{"global_step": 2}')
    assert saving.prepare(folder, {"base": "a"}) == folder / "checkpoint-2"
    assert saving.prepare(folder, {"base": "b"}) is None
    assert "starting anew" in capsys.readouterr().out
    assert not (folder / "checkpoint-2").exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    wild = replace(TINY, learning_rate=1e30)
    with pytest.raises(CourseError, match="Lower learning_rate"):
        finetune.train(DIALOGUES, DIALOGUES[:1], out=tmp_path / "adapter", profile=wild)
    assert not (tmp_path / "adapter").exists()


def test_more_than_one_process_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CourseError, match="one process"):
        finetune.train(DIALOGUES, DIALOGUES[:1], out=tmp_path / "adapter", profile=TINY)


def test_targets_that_the_model_lacks_are_named(base):
    with pytest.raises(CourseError, match="targets"):
        training.add_lora(base[0], replace(TINY, targets=("no_such_layer",)))


@contextmanager
def disk_full_after(size):
    """No file can grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [1_000_000, 3_000_000], ids=["weights", "optimizer"])
def test_full_disk_at_a_checkpoint_is_said(tmp_path, size):
    with disk_full_after(size), pytest.raises(CourseError, match="Could not write a checkpoint"):
        finetune.train(DIALOGUES[1:2], DIALOGUES[1:2], out=tmp_path / "adapter", profile=TINY)
    assert saving.last_checkpoint(tmp_path / "adapter.checkpoints") is None


def test_full_disk_leaves_the_old_adapter(lora, tmp_path):
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
    assert manifest["sources"] == [{"path": "train.jsonl", "sha256": artifacts.sha256(source)}]
    assert manifest["data"]["train"]["dialogues"] == 4


# --- figures and exercises


def test_tokens_are_shown_with_their_mask_and_nothing_typed_becomes_html():
    tokens, learned_ = ["<b>", " a", "\n", "<|im_end|>"], [False, True, False, True]
    shown = figures.coloured_tokens(tokens, learned_, "<|im_end|>")
    assert "<b>" not in shown and "&lt;b&gt;" in shown
    assert shown.count("border:2px") == 2  # the stop token, and the legend
    assert figures.plain_tokens(tokens, learned_) == "<b>⟦ a⟧\n⟦<|im_end|>⟧"


@pytest.mark.parametrize(
    "fig, words",
    [
        (lambda: figures.loss_curve([(1, 2.0), (2, 1.5)], [(0, 2.2), (2, 1.4)]), {"2.20", "1.40"}),
        (lambda: figures.lora_shapes(576, 192, 8), {"trained: 6,144 numbers"}),
        (lambda: figures.padding([100, 200], 512), {"Padded to 512 tokens"}),
    ],
)
def test_figures_draw(fig, words):
    from matplotlib.text import Text

    fig = fig()
    assert plots.png(fig).startswith(b"\x89PNG")
    drawn = {text.get_text() for text in fig.findobj(Text)}
    assert words <= drawn


def masked_by_id(parts, length, pad_id):
    ids, _ = SOLUTIONS["loss_mask"](parts, length, pad_id)
    _, labels = SOLUTIONS["loss_mask"](parts, length, pad_id)
    return ids, [IGNORE if label == pad_id else label for label in labels]


WRONG = {
    "rank_for": lambda shapes, budget: budget // sum(outputs * inputs for outputs, inputs in shapes),
    "loss_mask": masked_by_id,
    "lora_forward": lambda x, W, A, B, alpha: x @ W.T + x @ A.T @ B.T,
}


@pytest.mark.parametrize("name", WRONG)
def test_exercises(name, capsys):
    check = getattr(checks, name)
    assert not check(lambda *args: ...)
    assert "hint 1" in capsys.readouterr().out
    assert not check(WRONG[name])
    assert "hint" in capsys.readouterr().out
    assert check(SOLUTIONS[name])
    assert "✓" in capsys.readouterr().out
