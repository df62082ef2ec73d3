"""Evaluation: the prompts, intervals, what is counted in replies, losses dialogue by dialogue, votes, and training on
every token. Judged pairs: test_judge.py."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import DIALOGUES, TINY

from baize_nb import common, evaluation, finetune, models, moderation, plots, teacher
from baize_nb.chat import STOPS, ChatSession, Conversation
from baize_nb.common import CourseError
from baize_nb.evaluation import Prompt, Reply, Verdict, serving
from baize_nb.finetune import export, saving
from baize_nb.finetune.training import rows_loss
from baize_nb.plots import evaluation as figures
from baize_nb.widgets import CompareWidget

ADAPTER = common.DATA / "adapter"


def prompt(*texts, id="p", kind="general"):
    return Prompt(id, kind, [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)])


# --- prompts


def test_the_shipped_prompts_are_what_the_notebook_says():
    every = evaluation.prompts()
    assert Counter(p.kind for p in every) == dict.fromkeys(evaluation.KINDS, 16)
    assert len({p.id for p in every}) == len({json.dumps(p.messages) for p in every}) == 80
    assert all(len(p.messages) % 2 for p in every) and all(len(p.messages) >= 3 for p in every[64:])
    asked_elsewhere = {p.text for p in moderation.questions()}
    assert not any(m["content"] in asked_elsewhere for p in every for m in p.messages)


@pytest.mark.parametrize("n", [1, 5, 10, 12, 60, 80, 999])
def test_prompts_are_spread_over_the_kinds_and_more_of_them_hold_the_fewer(n):
    chosen = evaluation.prompts(n)
    counts = Counter(p.kind for p in chosen)
    assert len(chosen) == min(n, 80) and max(counts.values()) - min(counts.values()) <= 1
    assert {p.id for p in chosen} <= {p.id for p in evaluation.prompts(n + 5)}
    assert [p.id for p in chosen] == [p.id for p in evaluation.prompts() if p.id in {c.id for c in chosen}]


def test_a_line_that_is_no_prompt_is_named(tmp_path):
    file = tmp_path / "own.jsonl"
    user, assistant = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    good = {"id": "a", "kind": "code", "messages": [user]}
    bad = [good | {"kind": "?"}, good | {"messages": [user, assistant]}, good | {"messages": []}, {"id": "b"}, []]
    for line in bad:
        file.write_text(json.dumps(good) + "\n" + json.dumps(line) + "\n")
        with pytest.raises(CourseError, match=r"own\.jsonl:2 is no prompt"):
            evaluation.prompts(path=file)
    file.write_text(json.dumps(good) + "\n")
    assert evaluation.prompts(3, "code", "health", path=file) == [Prompt("a", "code", [user])]


# --- intervals


def test_the_bootstrap_of_a_mean_is_near_its_textbook_interval():
    values = np.random.default_rng(1).normal(10, 2, size=400)
    found, half = evaluation.bootstrap(values), 1.96 * values.std() / 20
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)
    assert found == evaluation.bootstrap(values) != evaluation.bootstrap(values, seed=1)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    dice = np.random.default_rng(0)
    hits = sum(evaluation.bootstrap(dice.exponential(1, 40), draws=300).holds(1.0) for _ in range(200))
    assert 170 <= hits <= 199


def test_rows_are_drawn_whole():
    rows = np.array([[n, 10 * n] for n in range(1, 9)])
    found = evaluation.bootstrap(rows, lambda drawn: drawn[:, 1].sum() / drawn[:, 0].sum())
    assert tuple(found) == pytest.approx((10, 10, 10))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_an_interval_lies_within_the_values(values):
    found = evaluation.bootstrap(values, draws=50)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_intervals_of_nothing_and_of_yes_only():
    with pytest.raises(ValueError, match="nothing to draw"):
        evaluation.bootstrap([])
    assert str(evaluation.bootstrap([1] * 12)) == "1.00 (1.00 to 1.00)"
    assert str(evaluation.rate([True] * 12)) == "1.00 (0.76 to 1.00)"


# --- what is counted


def test_measure_counts_what_it_says():
    asked = [prompt("Why do cats purr when they sleep?", id=str(i)) for i in range(4)]
    texts = ["Why do cats purr when they sleep", "so it is so it is so it is so it is", "", "They feel safe."]
    ends = ["stop", "marker", "limit", "stop"]
    replies = [Reply(str(i), text, end, 5) for i, (text, end) in enumerate(zip(texts, ends, strict=True))]
    table = evaluation.measure(asked, replies)
    assert list(table["stopped"]) == [True, False, False, True]
    assert list(table["leaked"]) == [False, True, False, False]
    assert list(table["echo"]) == [True, False, False, False]
    assert list(table["words"]) == [7, 12, 0, 3]
    assert table["repetition"]["1"] == pytest.approx(0.7) and table["repetition"]["0"] == 0
    found = evaluation.intervals(table)
    assert set(found) == {"stopped", "leaked", "echo", "repetition", "words", "tokens"}
    assert found["stopped"].value == 0.5 and found["words"].value == 5.5
    assert evaluation.distinct(replies[1:2], 2) == pytest.approx(3 / 11)


def test_diversity_is_not_lowered_by_drawing_twice():
    """Of replies that share no word every draw is all different; a bootstrap would say less."""
    replies = [Reply(str(i), f"a{i} b{i} c{i} d{i}", "stop", 4) for i in range(20)]
    assert tuple(evaluation.diversity(replies, 40)) == (1, 1, 1)
    same = [Reply(str(i), "one two three four", "stop", 4) for i in range(20)]
    assert evaluation.diversity(same, 40).high < 0.2


# --- losses


def test_losses_add_up_to_the_held_out_loss(base):
    model, tokenizer = base
    table = evaluation.losses(model, DIALOGUES, tokenizer, 96)
    assert len(table) == len(DIALOGUES)
    whole = finetune.heldout_loss(model, DIALOGUES, tokenizer, 96)
    assert evaluation.token_loss(table) == pytest.approx(whole, rel=1e-4)
    better = table.assign(nats=table["nats"] - 0.5 * table["tokens"])
    assert tuple(evaluation.loss_difference(table, better)) == pytest.approx((-0.5, -0.5, -0.5))


# --- training on every token


def test_loss_on_all_learns_every_token_of_the_same_rows(tokenizer):
    some = finetune.encode_all(DIALOGUES, tokenizer, 96)
    every = finetune.tokens.encode_all(DIALOGUES, tokenizer, 96, loss_on="all")
    assert [row["input_ids"] for row in some.rows] == [row["input_ids"] for row in every.rows]
    assert all(row["labels"] == row["input_ids"] for row in every.rows)
    assert all(finetune.IGNORE in row["labels"] for row in some.rows)


def test_the_two_losses_are_two_recipes_and_old_adapters_stay_valid():
    recipe = saving.recipe(DIALOGUES, DIALOGUES, "embedded", TINY)
    everything = saving.recipe(DIALOGUES, DIALOGUES, "embedded", replace(TINY, loss_on="all"))
    assert everything != recipe and everything["settings"]["loss_on"] == "all"
    assert set(recipe["settings"]) == set(saving.KNOBS)  # as in the manifests that are there already


def test_a_run_on_all_tokens_is_another_adapter_measured_on_the_same_tokens(base, tmp_path):
    (model, tokenizer), two = base, [DIALOGUES[1], DIALOGUES[3]]
    out, profile = tmp_path / "adapter", replace(TINY, loss_on="all", batch_size=len(two))
    run = finetune.train(two, two, out=out, profile=profile)
    assert run.loss_before == pytest.approx(finetune.heldout_loss(model, two, tokenizer, 96), rel=1e-4)
    every = finetune.tokens.encode_all(two, tokenizer, 96, loss_on="all").rows
    assert run.history[0][1] == pytest.approx(rows_loss(model, every, tokenizer.eos_token_id), rel=1e-3)
    assert run.history[0][1] != pytest.approx(run.loss_before, rel=1e-2)
    assert saving.finished(out, saving.recipe(two, two, "embedded", profile))
    assert not saving.finished(out, saving.recipe(two, two, "embedded", TINY))


# --- replies


@pytest.fixture(scope="module")
def served():
    """The embedded model behind llama.cpp; that one with an adapter is served is seen in notebook 06."""
    with evaluation.serve("base", slots=2) as found:
        yield found


def test_a_file_is_made_once_for_its_weights(monkeypatch, tmp_path):
    """Again where the adapter has changed, and where the last attempt did not come to its end."""
    made, adapter = [], tmp_path / "adapter"
    shutil.copytree(ADAPTER, adapter)

    def export(adapter, base, out):
        made.append(adapter)
        if len(made) == 2:
            raise CourseError("disk full")
        common.write_text(out, "weights")

    monkeypatch.setattr(finetune, "export_gguf", export, raising=False)
    weights = serving._weights(adapter, "embedded")
    for _ in range(2):
        path = serving._file("once", adapter, "embedded", weights)
    assert path.is_file() and len(made) == 1
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    changed = serving._weights(adapter, "embedded")
    with pytest.raises(CourseError):
        serving._file("once", adapter, "embedded", changed)
    serving._file("once", adapter, "embedded", weights)
    assert changed != weights and len(made) == 3
    assert serving._file("x", None, "embedded", "") == models.gguf()


def test_a_folder_is_known_by_its_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = serving._weights(None, str(tmp_path))
    assert before == serving._weights(None, str(tmp_path)) != serving._weights(ADAPTER, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert before != serving._weights(None, str(tmp_path))


def test_without_an_adapter_the_base_model_is_exported(base):
    model, _ = export._merged(None, "embedded", "float32")
    name, weight = next((n, p) for n, p in model.named_parameters() if n.endswith("q_proj.weight"))
    assert weight.equal(base[0].get_parameter(name))


def test_replies_are_kept_and_never_asked_for_twice(served, tokenizer, tmp_path):
    file = tmp_path / "replies.jsonl"
    asked = [evaluation.prompts()[i] for i in (0, 30, 66)] + [evaluation.prompts()[0]._replace(id="again")]
    talks = evaluation.sessions(served, tokenizer, n=2, max_new_tokens=12)
    replies = evaluation.reply(talks, asked, file)
    assert [r.id for r in replies] == [p.id for p in asked] and replies[0][1:] == replies[3][1:]
    assert all(r.end in ("stop", "marker", "limit") and 0 < r.tokens <= 12 for r in replies)
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3
    gone = teacher.Teacher("http://127.0.0.1:9/v1", served.model)
    silent = evaluation.sessions(gone, tokenizer, n=2, max_new_tokens=12)
    assert evaluation.reply(silent, asked, file) == replies  # from the file: nobody is there to be asked
    other = evaluation.sessions(gone, tokenizer, n=1, max_new_tokens=12, seed=1)
    with pytest.raises(CourseError, match="Nothing answers"):
        evaluation.reply(other, asked[:1], file)


def test_earlier_turns_are_read_and_sessions_stay_as_they_were(base):
    model, tokenizer = base
    session = ChatSession(model, tokenizer, max_new_tokens=4, temperature=0)
    talk = prompt("My name is Ada.", "Hello Ada!", "What is my name?")
    found = evaluation.reply([session], [talk])[0]
    assert session.stops == STOPS and [m["content"] for m in session.messages[:3]] == [
        "My name is Ada.",
        "Hello Ada!",
        "What is my name?",
    ]
    assert found.text == session.messages[3]["content"]


class Said(Conversation):
    """A session that says what a test wants, piece by piece."""

    def __init__(self, *pieces):
        super().__init__(100, 0, 1, 1, 0, 2048, None)
        self.pieces = pieces

    def _read(self, messages):
        return messages

    def _length(self, messages):
        return 0

    def _write(self, messages):
        for piece in self.pieces:
            yield piece, 1


@pytest.mark.parametrize(
    ("pieces", "text", "end", "tokens"),
    [
        (("Nice", ".\n[|Hu", "man|] And you?", " more"), "Nice.", "marker", 3),
        (("Nice", ".", None), "Nice.", "stop", 3),
        (("Nice", "."), "Nice.", "limit", 2),
        (("[AI] me", None), "", "marker", 1),
    ],
)
def test_a_marker_and_a_stop_token_are_told_apart(pieces, text, end, tokens):
    assert evaluation.reply([Said(*pieces)], [prompt("Hi")])[0] == Reply("p", text, end, tokens)


# --- votes


def test_votes_on_recorded_replies_meet_the_verdicts(tmp_path):
    asked = [prompt("What is rain?", id="1"), prompt("What is snow?", id="2"), prompt("Hi", "Yes?", "And?", id="3")]
    a, b = ([Reply(p.id, f"{side} on {p.id}.", "stop", 3) for p in asked] for side in "ab")
    rivals = {"one": evaluation.Recorded("one", asked, a), "two": evaluation.Recorded("two", asked, b)}
    blind = CompareWidget(rivals, tmp_path / "votes.jsonl", threaded=False)
    for question, choice in (("What is rain?", "one"), ("What is snow?", "same")):
        blind.text.value = question
        blind.send.click()
        blind.wait()
        drawn = blind._round.names
        sides = {name: side for side, name in drawn.items()}
        blind.ballot[sides.get(choice, choice)].click()
    pairs = evaluation.pair(asked, a, b)
    verdicts = [Verdict("1", "a", "a"), Verdict("2", "b", "b"), Verdict("3", "a", "a")]
    assert evaluation.compared(blind.votes.cast, pairs, verdicts) == [("a", "a"), ("tie", "b")]
    changed = [p._replace(a="something else") for p in pairs]
    assert evaluation.compared(blind.votes.cast, changed, verdicts) == []
    blind.text.value = "What is hail?"
    blind.send.click()
    blind.wait()
    assert "no recorded reply" in blind.status.value


def test_kappa_is_that_of_the_books():
    labels = ["yes"] * 25 + ["no"] * 25
    others = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert evaluation.kappa(labels, others) == pytest.approx(0.4)
    assert evaluation.kappa(labels, labels) == 1
    assert np.isnan(evaluation.kappa(["tie"], ["tie"]))


# --- figures


def test_figures_have_a_panel_for_each_measure_and_a_line_for_each_model():
    models = {name: {"a": (0.5, 0.2, 0.7), "b": (3, 1, 4)} for name in ("base", "tuned")}
    fig = figures.intervals(models, {"b": "first", "a": "second"})
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == ["first", "second"]
    assert [tick.get_text() for tick in shown[0].get_yticklabels()] == ["base", "tuned"]
    assert [len(ax.lines) for ax in shown] == [4, 4] and plots.png(fig)
    curve = figures.against_length([-5, 0, 5], [0, 0.5, 1], 0.3, 0.1)
    marked = next(line for line in curve.axes[0].lines if line.get_label() == "at equal length")
    assert marked.get_ydata()[0] == pytest.approx(evaluation.verdicts.chance(0.3)) and mean(marked.get_xdata()) == 0
