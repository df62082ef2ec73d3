"""Evaluation: prompts, intervals, what is counted in replies, replies that are kept, losses, figures."""

import asyncio
import json
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from endpoints import Answer, completion, serving
from smalltalk import DIALOGUES

from baize_nb import common, evaluation, finetune, moderation, plots, teacher
from baize_nb.common import CourseError
from baize_nb.evaluation import Prompt, Reply
from baize_nb.plots import evaluation as figures

ADAPTER = common.DATA / "adapter"


def prompt(*texts, id="p", kind="general"):
    return Prompt(id, kind, [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)])


@pytest.mark.parametrize("n", [1, 12, 60, 999])
def test_prompts_are_spread_over_the_kinds_and_more_of_them_hold_the_fewer(n):
    every = evaluation.prompts()
    assert len({p.id for p in every}) == len({json.dumps(p.messages) for p in every}) == 80
    assert all(len(p.messages) % 2 for p in every) and all(len(p.messages) >= 3 for p in every[64:])
    asked_elsewhere = {p.text for p in moderation.questions()}
    assert not any(m["content"] in asked_elsewhere for p in every for m in p.messages)
    chosen = evaluation.prompts(n)
    counts = Counter(p.kind for p in chosen)
    assert len(chosen) == min(n, 80) and max(counts.values()) - min(counts.values()) <= 1
    assert [p for p in evaluation.prompts(n + 5) if p in chosen] == chosen


# --- intervals


def test_the_bootstrap_covers_the_truth_draws_rows_whole_and_shares_have_some_width():
    rng = np.random.default_rng(0)
    hits = sum(evaluation.bootstrap(rng.exponential(1, 40), draws=300).holds(1.0) for _ in range(200))
    assert 170 <= hits <= 199
    rows = np.array([[n, 10 * n] for n in range(1, 9)])
    found = evaluation.bootstrap(rows, lambda drawn: drawn[:, 1].sum() / drawn[:, 0].sum())
    assert tuple(found) == pytest.approx((10, 10, 10))
    assert str(evaluation.bootstrap([1] * 12)) == "1.00 (1.00 to 1.00)"
    assert str(evaluation.rate([True] * 12)) == "1.00 (0.76 to 1.00)"


@pytest.mark.parametrize(
    ("both", "gone", "come", "none", "low", "high", "p"),
    [
        (36, 12, 2, 0, -0.3404, -0.0569, 0.0129),  # Newcombe (1998), table III, method 10
        (0, 0, 4, 56, -0.0058, 0.1593, 0.125),  # a bootstrap of these sees a difference
        (0, 0, 0, 12, -0.2425, 0.2425, 1.0),
    ],
)
def test_paired_rates_are_compared_exactly(both, gone, come, none, low, high, p):
    before = [True] * (both + gone) + [False] * (come + none)
    after = [True] * both + [False] * gone + [True] * come + [False] * none
    difference, exact = evaluation.rate_difference(before, after)
    assert tuple(difference) == pytest.approx(((come - gone) / len(before), low, high), abs=1e-4)
    assert exact == pytest.approx(p, abs=1e-4)


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
    assert found["stopped"].value == 0.5 and found["words"].value == 5.5 and "kind" not in found
    different = [Reply(str(i), f"a{i} b{i} c{i} d{i}", "stop", 4) for i in range(20)]
    assert tuple(evaluation.diversity(different, 40)) == (1, 1, 1), "a bootstrap would say less"


def test_losses_add_up_to_the_held_out_loss(base):
    model, tokenizer = base
    table = evaluation.losses(model, DIALOGUES, tokenizer, 96)
    assert len(table) == len(DIALOGUES)
    whole = finetune.heldout_loss(model, DIALOGUES, tokenizer, 96)
    assert evaluation.token_loss(table) == pytest.approx(whole, rel=1e-4)
    own = evaluation.losses(model, DIALOGUES, tokenizer, 96, own_format=True)
    said = [m["content"] for m in DIALOGUES[0].messages[1::2]]
    assert own["tokens"][0] == sum(len(tokenizer(text).input_ids) + 1 for text in said), "the answers and their stops"
    better = table.assign(nats=table["nats"] - 0.5 * table["tokens"])
    assert tuple(evaluation.loss_difference(table, better)) == pytest.approx((-0.5, -0.5, -0.5))


# --- replies


def test_a_file_is_made_once_for_its_weights(monkeypatch, tmp_path):
    made, adapter = [], tmp_path / "adapter"
    shutil.copytree(ADAPTER, adapter)

    def export_gguf(adapter, base, out):
        made.append(out)
        common.write_text(out, "weights")

    monkeypatch.setattr(finetune, "export_gguf", export_gguf, raising=False)
    # What is served is seen in notebook 06.
    monkeypatch.setattr(evaluation, "Engine", lambda *_, **__: SimpleNamespace(url="http://127.0.0.1:9/v1"))
    first, again = (evaluation.serve("once", adapter).model for _ in range(2))
    assert first == again and len(made) == 1
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    assert evaluation.serve("once", adapter).model != first and len(made) == 2
    assert not made[0].exists() and made[1].exists(), "older weights are of no use"
    names = {evaluation.serve("base").model}
    for weights in (b"one", b"two"):  # a folder is known by its weights
        (tmp_path / "model.safetensors").write_bytes(weights)
        names.add(evaluation.serve("base", None, str(tmp_path)).model)
    assert len(names) == 3


def ask(url, prompts, path, tokenizer=None, model="m", engine=None, **options):
    at = teacher.Teacher(url, model, engine=engine)
    return asyncio.run(evaluation.reply(at, prompts, path, tokenizer, **options))


def test_replies_are_kept_and_never_asked_for_twice(tokenizer, tmp_path):
    file = tmp_path / "replies.jsonl"
    asked = [evaluation.prompts()[i] for i in (0, 30, 66)] + [evaluation.prompts()[0]._replace(id="again")]
    with evaluation.serve("base", slots=2) as served:
        replies = asyncio.run(evaluation.reply(served, asked, file, tokenizer, max_new_tokens=12))
        assert "no cost" in str(evaluation.estimate(served, asked[:3], tmp_path / "none", tokenizer))
    assert [r.id for r in replies] == [p.id for p in asked] and replies[0][1:] == replies[3][1:]
    assert all(r.end in ("stop", "marker", "limit") and 0 < r.tokens <= 12 for r in replies)
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3
    file.with_name("replies.requests.jsonl").unlink()  # as the course's first version left it: replies, and no log
    old = {"id": "p", "model": "m", "question": "Hi", "text": "Hello.", "end": "stop", "tokens": 3, "settings": {}}
    file.write_text(file.read_text() + json.dumps({"key": "b7f904fcb370674c"} | old) + "\n")  # and its hash
    assert ask("http://127.0.0.1:9/v1", [prompt("Hi")], file) == [Reply("p", "Hello.", "stop", 3)]
    gone, model = "http://127.0.0.1:9/v1", served.model
    assert ask(gone, asked, file, tokenizer, model, max_new_tokens=12) == replies, "nobody is there to be asked"
    assert evaluation.estimate(teacher.Teacher(gone, model), asked, file, tokenizer, max_new_tokens=12).requests == 0
    with pytest.raises(CourseError, match="Nothing answers"):
        ask(gone, asked[:1], file, tokenizer, model, max_new_tokens=12, seed=1)


@pytest.mark.parametrize(
    ("said", "finish", "text", "end"),
    [
        ("Nice.\n[|Human|] And you? more", "stop", "Nice.", "marker"),
        (" Nice.", "stop", "Nice.", "stop"),
        ("Nice.", "length", "Nice.", "limit"),
        ("[AI] me", "stop", "", "marker"),
    ],
)
def test_a_marker_and_a_stop_token_are_told_apart(tokenizer, tmp_path, said, finish, text, end):
    seen = []

    async def answer(path, body):
        seen.append(body)
        return Answer(reply)

    reply = completion(said, finish, usage=(9, 3))
    del reply["choices"][0]["message"]
    with serving(answer) as url:
        talk = prompt("My name is Ada.", "Hello Ada!", "What is my name?")
        assert ask(url, [talk], tmp_path / "r.jsonl", tokenizer, engine="ours") == [Reply("p", text, end, 3)]
    (body,) = seen
    read = tokenizer.decode(body["prompt"])
    assert read.index("Ada.") < read.index("Hello Ada!") < read.index("What is my name?"), "earlier turns are read"


def test_figures_have_a_panel_for_each_measure_and_a_line_for_each_model():
    models = {"base": {"a": (0.5, 0.2, 0.7), "b": (3, -1, 4)}, "tuned": {"a": (0.5, 0.2, 0.7), "b": (3, 1, 4)}}
    fig = figures.intervals(models, {"b": "first", "a": "second"})
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["first", "second"] and plots.png(fig)
    assert [tick.get_text() for tick in fig.axes[0].get_yticklabels()] == ["base", "tuned"]
    assert [len(ax.lines) for ax in fig.axes] == [5, 4], "a line at zero where both sides are reached"
    unsure, sure = (fig.axes[0].lines[i].get_markerfacecolor() for i in (1, 3))
    assert unsure == "white" != sure
    curve = figures.against_length([-5, 0, 5], [0, 0.5, 1], 0.0, 0.1, "simulated")
    marked = next(line for line in curve.axes[0].lines if line.get_label() == "at equal length")
    assert (marked.get_xdata()[0], marked.get_ydata()[0]) == (0, 0.5)


def test_the_chosen_candidate_is_marked():
    lines = figures.candidates([([80, 90], 1), ([10, 20], None)], floor=60).axes[0].lines
    assert [tuple(x.get_xydata()[0]) for x in lines if x.get_marker() == "D"] == [(1, 90)], "the best question last"
