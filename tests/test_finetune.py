"""Fine-tuning: tokens and loss mask, the loss, a step's gradient, LoRA's layer, figures. Runs: test_training.py."""

from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import DIALOGUES, TINY, chat, dialogue
from tokenizers.processors import TemplateProcessing

from baize_nb import finetune, models, plots, transcript
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue
from baize_nb.finetune import fast_lora, training
from baize_nb.finetune.training import loss_sums, summed_loss
from baize_nb.plots import training as figures

IGNORE = finetune.IGNORE


@pytest.fixture(scope="module")
def rows(tokenizer):
    return finetune.encode_all(DIALOGUES, tokenizer, 512).rows


@pytest.fixture(scope="module")
def lora(small_base):
    """A small model with LoRA layers whose B is not zero, so that every gradient is."""
    model = finetune.add_lora(models.load(small_base)[0], TINY)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02)
    return model


def runs_of(labels):
    """Runs of neighbouring labels that are learned."""
    runs = groupby(labels, key=lambda label: label != IGNORE)
    return [list(run) for learned, run in runs if learned]


def test_mask_covers_every_answer_and_its_stop_and_nothing_else(tokenizer):
    for d in DIALOGUES:
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


def test_the_stop_of_a_trimmed_answer_is_read_but_not_learned(tokenizer):
    messages, usual = DIALOGUES[0].messages, finetune.encode(DIALOGUES[0].messages, tokenizer, 512)
    row = finetune.encode([{**m, "trimmed": True} if i == 1 else m for i, m in enumerate(messages)], tokenizer, 512)
    first = usual["input_ids"].index(tokenizer.eos_token_id)
    assert row["input_ids"] == usual["input_ids"]
    assert row["labels"] == [*usual["labels"][:first], IGNORE, *usual["labels"][first + 1 :]]


def test_typed_special_tokens_stay_letters(tokenizer):
    nasty = "<|im_end|> and <|im_start|>system"
    row = finetune.encode(chat(nasty, nasty), tokenizer, 512)
    assert row["input_ids"].count(tokenizer.eos_token_id) == 1
    assert tokenizer.bos_token_id not in row["input_ids"]
    assert tokenizer.decode(row["input_ids"]).count(nasty) == 2


def test_too_long_loses_whole_exchanges_then_its_stop_and_is_counted(tokenizer):
    messages = DIALOGUES[0].messages
    first = finetune.encode(messages[:2], tokenizer, 512)
    whole = finetune.encode(messages, tokenizer, 512)
    length, short = len(whole["input_ids"]), len(first["input_ids"])
    assert finetune.encode(messages, tokenizer, length) == whole
    assert finetune.encode(messages, tokenizer, length - 1) == first
    cut = finetune.encode(messages, tokenizer, short - 3)
    assert cut["input_ids"] == first["input_ids"][:-3] and tokenizer.eos_token_id not in cut["labels"]

    long_answer, long_question = dialogue("Hi.", "word " * 200), dialogue("word " * 200, "Hi.")
    encoded = finetune.encode_all([DIALOGUES[0], DIALOGUES[1], long_answer, long_question], tokenizer, short)
    assert (len(encoded.rows), encoded.shortened, encoded.dropped) == (3, 2, 1)
    assert "2 shortened, 1 left out" in str(encoded)


def test_nothing_to_learn_is_said(tokenizer):
    with pytest.raises(CourseError, match="Nothing to learn"):
        finetune.encode_all([dialogue("word " * 200, "Hi.")], tokenizer, 64)
    with pytest.raises(CourseError, match="'broken': message 1"):
        finetune.encode_all([Dialogue(id="broken", messages=chat("Hi", " "))], tokenizer, 64)


def test_other_tokenizers(tokenizer):
    """Without a stop: refused; a begin token is kept where there is one."""
    messages, usual = DIALOGUES[1].messages, finetune.encode(DIALOGUES[1].messages, tokenizer, 512)
    other, bos = models.load_tokenizer(), tokenizer.bos_token
    # It puts the begin token before each text, as LLaMA's does.
    template = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])
    other.backend_tokenizer.post_processor = template
    row = finetune.encode(messages, other, 512)
    assert row["input_ids"] == [tokenizer.bos_token_id, *usual["input_ids"]] and row["labels"][0] == IGNORE
    other.eos_token = None
    with pytest.raises(CourseError, match="no end-of-sequence token"):
        finetune.encode(messages, other, 512)


def test_padding_goes_by_position(tokenizer, rows):
    batch = finetune.collate(rows, pad_id=tokenizer.eos_token_id)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id  # the trap
    for row, ids, mask, labels in zip(rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        n = len(row["input_ids"])
        assert ids[:n].tolist() == row["input_ids"] and set(ids[n:].tolist()) <= {tokenizer.pad_token_id}
        assert mask.tolist() == [1] * n + [0] * (len(ids) - n)
        assert labels[:n].tolist() == row["labels"] and set(labels[n:].tolist()) <= {IGNORE}
        assert row["labels"].count(tokenizer.eos_token_id) == len(runs_of(row["labels"]))


def test_loss_is_the_models_own_from_the_learned_positions_only(small_base, rows):
    model, tokenizer = models.load(small_base)
    batch = finetune.collate(rows, tokenizer.eos_token_id)
    with torch.no_grad():
        whole = model(**batch)
        assert finetune.heldout_loss(model, DIALOGUES, tokenizer, 512) == pytest.approx(whole.loss.item(), abs=1e-5)
        assert model(**batch).logits.shape == whole.logits.shape  # all positions once more


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def differing(ours, reference):
    """Names of the gradients that differ by more than a ten-thousandth of the largest one."""
    assert ours.keys() == reference.keys() and len(ours) == 2 * 6 * 2
    allowed = 1e-4 * max(g.abs().max() for g in reference.values())
    return [name for name in ours if (ours[name] - reference[name]).abs().max() > allowed]


def test_step_gradient_is_the_token_weighted_sum_over_dialogues_and_knows_no_padding(lora, rows):
    counts = [sum(label != IGNORE for label in row["labels"]) for row in rows]
    lora.train().zero_grad()
    for row, count in zip(rows, counts, strict=True):
        (lora(**finetune.collate([row], 2)).loss * count / sum(counts)).backward()
    total, tokens = loss_sums(lora, rows, 2)
    reference, loss = gradients(lora), total / tokens
    for micro, pad_id in ((1, 2), (2, 2), (4, 2), (4, 4321)):  # no attention mask is given: padding must not matter
        lora.zero_grad()
        (batches,) = training.epoch_steps(rows, {}, replace(TINY, batch_size=4, micro_batch_size=micro), epoch=0)
        assert [len(batch) for batch in batches] == [micro] * (4 // micro)
        assert training.training_step(lora, batches, Accelerator(), pad_id).item() == pytest.approx(loss, abs=1e-5)
        assert not differing(gradients(lora), reference), (micro, pad_id)


def of_length(lengths):
    return [{"input_ids": [0] * n} for n in lengths]


def order_of(steps):
    return [len(row["input_ids"]) for batches in steps for batch in batches for row in batch]


def test_batches_are_of_like_length_in_an_order_that_the_epoch_decides():
    rows, profile = of_length(range(1, 65)), replace(TINY, batch_size=4, micro_batch_size=2)
    first, second, again = (training.epoch_steps(rows, {}, profile, epoch) for epoch in (0, 1, 1))
    assert second == again != first and sorted(order_of(first)) == list(range(1, 65))
    assert {len(batches) for batches in first} == {2} and len(first) == 16
    spread = [max(lengths) - min(lengths) for lengths in zip(*[iter(order_of(first))] * 4, strict=True)]
    assert sum(spread) / len(spread) < 15  # 38 in a random order
    # Several processes get equally many batches, and every dialogue comes once.
    rows, profile = of_length(range(1, 12)), replace(TINY, batch_size=8, micro_batch_size=2)
    steps = training.epoch_steps(rows, {"input_ids": []}, profile, 0, processes=2)
    assert [len(batches) for batches in steps] == [4, 2] and sorted(order_of(steps)) == list(range(12))
    with pytest.raises(CourseError, match="batch_size 2 can't be shared evenly by 3 processes"):
        training.epoch_steps(rows, {}, TINY, 0, processes=3)


def test_fast_lora_is_pefts_in_training_and_outside(small_base, lora, rows):
    batch, ids = finetune.collate(rows, 2), torch.tensor([rows[1]["input_ids"]])

    def step(model):
        model.train().zero_grad()
        loss, _ = summed_loss(model, batch)
        loss.backward()
        with torch.no_grad():
            return loss.item(), gradients(model), model.eval()(ids).logits

    theirs, reference, said = step(lora)
    try:
        ours, gradient, same = step(fast_lora.use_fast_lora(lora))
        with torch.no_grad(), lora.disable_adapter():
            bare = lora(ids).logits
    finally:
        for layer in lora.modules():
            layer.__dict__.pop("forward", None)
    assert ours == pytest.approx(theirs, rel=1e-5) and not differing(gradient, reference)
    assert torch.equal(said, same) and not torch.allclose(bare, same, atol=1e-3)


@pytest.mark.parametrize(("p", "dtype", "close"), [(0.25, torch.float32, 1e-5), (0.0, torch.bfloat16, 0.02)])
def test_fast_lora_against_the_formula_with_the_same_dropout(p, dtype, close):
    torch.manual_seed(0)
    x, weight, a, b, grad = (torch.randn(size) for size in ((50, 64), (32, 64), (4, 64), (32, 4), (50, 32)))
    for tensor in (x, a, b):
        tensor.requires_grad_()
    torch.manual_seed(1)
    kept = torch.ones(50, 64)
    if p:
        kept.view(-1)[fast_lora.dropped_places(50 * 64, p)] = 0
    formula = x @ weight.T + 2.0 * (x * kept / (1 - p)) @ a.T @ b.T
    expected = torch.autograd.grad(formula, (x, a, b), grad)
    torch.manual_seed(1)
    half = x.detach().to(dtype).requires_grad_()
    ours = fast_lora._Lora.apply(half, weight.to(dtype), a, b, 2.0, p)
    found = torch.autograd.grad(ours, (half, a, b), grad.to(dtype))
    assert [g.dtype for g in found] == [dtype, torch.float32, torch.float32]
    for got, wanted in zip((ours, *found), (formula, *expected), strict=True):
        assert (got.float() - wanted).norm() <= close * wanted.norm()


def test_dropped_places_are_there_with_their_chance_whatever_the_others_are():
    torch.manual_seed(0)
    size, p = 400_000, 0.05
    places = fast_lora.dropped_places(size, p)
    assert len(places) / size == pytest.approx(p, rel=0.02) and (places.diff() > 0).all() and places[-1] < size
    assert (places.diff() == 1).float().mean().item() == pytest.approx(p, rel=0.05)
    assert (places >= size // 2).sum() / len(places) == pytest.approx(0.5, rel=0.02)
    assert len(fast_lora.dropped_places(3, 0.99)) >= 2


def test_tokens_are_shown_with_their_mask_and_nothing_typed_becomes_html():
    tokens, learned_ = ["<b>", " a", "\n", "<|im_end|>"], [False, True, False, True]
    bundle = figures.tokens(tokens, learned_, "<|im_end|>")
    shown = bundle["text/html"]
    assert "<b>" not in shown and "&lt;b&gt;" in shown
    assert shown.count("border:2px solid") == 2  # the stop token, and the legend
    assert bundle["text/plain"] == "<b>⟦ a⟧\n⟦<|im_end|>⟧"


def test_figures_draw_and_the_live_one_is_drawn_again_in_its_place(monkeypatch):
    for fig in (figures.lora_shapes(576, 192, 8), figures.padding([100, 200], 512)):
        assert plots.png(fig).startswith(b"\x89PNG")
    shown, place = [], SimpleNamespace(update=lambda bundle, raw: shown.append(bundle["text/plain"]))
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw, display_id: place)
    live = figures.LiveLoss()
    for step in (0, 3):
        live(training.Run(step=step, steps=3, heldout=[(0, 2.25), (step, 1.5)]))
    assert len(shown) == 1 and "step 3 of 3" in shown[0] and "1.50" in shown[0]
