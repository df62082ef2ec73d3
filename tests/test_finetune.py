"""Fine-tuning: tokens and loss mask, the loss, the gradient, figures and exercises. Runs: test_finetune_runs.py."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import DIALOGUES, TINY, chat, dialogue

from baize_nb import finetune, models, plots, transcript
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue
from baize_nb.finetune import fastlora, training
from baize_nb.finetune.fastlora import quicken
from baize_nb.finetune.loss import learned, projecting_only, rows_loss, summed_loss
from baize_nb.finetune.trainer import AssistantTrainer, ByLength
from baize_nb.finetune.watching import Seen
from baize_nb.plots import training as figures
from checks import finetune as checks

SOLUTIONS = runpy.run_path(str(Path(__file__).parents[1] / "notebooks/solutions/04_lora_finetuning.py"))
IGNORE = finetune.IGNORE


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


def test_a_tokenizer_without_a_chat_template_is_enough(tokenizer):
    plain = models.load_tokenizer()
    plain.chat_template = None
    assert finetune.encode(DIALOGUES[0].messages, plain, 512) == finetune.encode(DIALOGUES[0].messages, tokenizer, 512)


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
    arguments = training._arguments(folder, replace(TINY, batch_size=4, micro_batch_size=micro))
    assert arguments.gradient_accumulation_steps * micro == 4
    trainer = AssistantTrainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows, pad_id=2)
    batches = [finetune.collate(rows[i : i + micro], 2) for i in range(0, 4, micro)]
    items = trainer._get_num_items_in_batch(batches, "cpu")
    trainer.current_gradient_accumulation_steps = len(batches)
    model.zero_grad()
    losses = [trainer.training_step(model, batch, items) for batch in batches]
    return gradients(model), sum(losses).item(), items


def differing(ours, reference):
    """Names of the gradients that differ by more than a ten-thousandth of the largest one."""
    assert ours.keys() == reference.keys() and len(ours) == 2 * 6 * 30
    allowed = 1e-4 * max(g.abs().max() for g in reference.values())
    return [name for name in ours if (ours[name] - reference[name]).abs().max() > allowed]


def test_step_gradient_is_the_token_weighted_sum_over_dialogues(lora, tokenizer, tmp_path):
    rows = finetune.encode_all(DIALOGUES, tokenizer, 512).rows
    counts = [sum(label != IGNORE for label in row["labels"]) for row in rows]
    lora.zero_grad()
    for row, count in zip(rows, counts, strict=True):
        (lora(**finetune.collate([row], 2)).loss * count / sum(counts)).backward()
    reference, loss = gradients(lora), rows_loss(lora, rows, 2)
    for micro in (1, 2, 4):
        ours, step_loss, items = step_gradients(lora, rows, micro, tmp_path)
        assert items == sum(counts) and step_loss == pytest.approx(loss, abs=1e-5)
        assert not differing(ours, reference), micro


def test_padding_changes_no_gradient(lora, tokenizer, tmp_path):
    """No attention mask is given, so what stands in the padding must not matter."""
    rows = finetune.encode_all(DIALOGUES, tokenizer, 512).rows
    reference, _, _ = step_gradients(lora, rows, 4, tmp_path)
    batch = finetune.collate(rows, pad_id=4321)
    lora.zero_grad()
    (summed_loss(lora, batch) / int(learned(batch["labels"]).sum())).backward()
    assert not differing(gradients(lora), reference)


@pytest.fixture
def quick(lora):
    """Turns the same model's LoRA layers into ours, until the end of a test; before, they are peft's."""
    yield lambda: quicken(lora)
    for layer in lora.modules():
        layer.__dict__.pop("forward", None)


def test_quick_lora_gives_the_gradients_of_peft(lora, quick, tokenizer):
    batch = finetune.collate(finetune.encode_all(DIALOGUES, tokenizer, 512).rows, 2)

    def step(model):
        model.train().zero_grad()
        loss = summed_loss(model, batch)
        loss.backward()
        return loss.item(), gradients(model)

    theirs, reference = step(lora)
    ours, gradient = step(quick())
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert not differing(gradient, reference)


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_quick_lora_against_the_formula_with_the_same_dropout(p):
    torch.manual_seed(0)
    x, weight, a, b, grad = (torch.randn(size) for size in ((5, 6), (4, 6), (2, 6), (4, 2), (5, 4)))
    for tensor in (x, a, b):
        tensor.requires_grad_()
    torch.manual_seed(1)
    kept = torch.ones(5, 6)
    if p:
        kept.view(-1)[fastlora.dropped_places(30, p)] = 0
        assert 0 < kept.sum() < 30
    formula = x @ weight.T + 2.0 * (x * kept / (1 - p)) @ a.T @ b.T
    expected = torch.autograd.grad(formula, (x, a, b), grad)
    torch.manual_seed(1)
    ours = fastlora._Lora.apply(x, weight, a, b, 2.0, p)
    assert torch.allclose(ours, formula, atol=1e-5)
    for found, wanted in zip(torch.autograd.grad(ours, (x, a, b), grad), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_dropped_places_are_drawn_one_by_one():
    torch.manual_seed(0)
    size, p = 1_000_000, 0.05
    places = fastlora.dropped_places(size, p)
    assert (places.diff() > 0).all() and places[0] >= 0 and places[-1] < size
    assert len(places) / size == pytest.approx(p, rel=0.02)
    neighbours = (places.diff() == 1).sum().item() / len(places)  # whether the next one is dropped, too, is chance
    assert neighbours == pytest.approx(p, rel=0.05)
    assert (places >= size // 2).sum() / len(places) == pytest.approx(0.5, rel=0.02)
    assert len(fastlora.dropped_places(3, 0.99)) >= 2


def test_quick_lora_is_pefts_own_outside_of_training(lora, quick, tokenizer):
    ids = torch.tensor([finetune.encode(DIALOGUES[1].messages, tokenizer, 512)["input_ids"]])
    with torch.no_grad():
        theirs = lora.eval()(ids).logits
        ours = quick()(ids).logits
        with lora.disable_adapter():
            bare = lora(ids).logits
    assert torch.equal(ours, theirs) and not torch.allclose(bare, theirs, atol=1e-3)


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


def test_several_processes_get_equally_many_batches_and_every_dialogue_once():
    rows = [{"input_ids": [0] * n} for n in range(1, 12)]
    order = list(ByLength(8, rows, multiple=4))
    assert len(order) == len(ByLength(8, rows, multiple=4)) == 12
    assert order[:11] == list(ByLength(8, rows)) and order[11] == 11  # the blank row comes after the last dialogue


def test_looking_at_the_loss_leaves_the_model_as_it_was(lora, tokenizer):
    lora.train()
    before = {n: p.detach().clone() for n, p in lora.named_parameters() if p.requires_grad}
    finetune.heldout_loss(lora, DIALOGUES[:1], tokenizer, 96)
    assert lora.training
    assert all(torch.equal(p, before[n]) for n, p in lora.named_parameters() if p.requires_grad)


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


def test_live_figure_is_drawn_again_in_its_place(monkeypatch):
    shown = []

    class Place:
        def update(self, bundle, raw):
            shown.append(bundle["text/plain"])

    def display(bundle, raw, display_id):
        shown.append(bundle["text/plain"])
        return Place()

    monkeypatch.setattr("IPython.display.display", display)
    live = figures.LiveLoss()
    live(Seen(1, 3, [(1, 2.0)], []))  # nothing to show yet
    live(Seen(0, 3, [], [(0, 2.25)]))
    live(Seen(3, 3, [(1, 2.0), (3, 1.5)], [(0, 2.25), (3, 1.5)]))
    assert len(shown) == 2 and "2.25" in shown[0] and "step 3 of 3" in shown[1] and "1.50" in shown[1]


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
