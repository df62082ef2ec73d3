"""The ablations: what a setting changes, the update's rank, and a table that goes on where it was interrupted."""

import dataclasses
import itertools

import pytest
import torch
from matplotlib.text import Text

from baize_nb import common, corpus, finetune, models, plots, profiles
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue
from baize_nb.finetune import ablations
from baize_nb.finetune.ablations import Setting
from baize_nb.plots import training as figures

BASELINE, TRAINED = Setting("baseline"), 16
TALKS = [
    ("Why is the sky blue?", "Air scatters blue light most."),
    ("What is asthma?", "A disease of the airways, which makes them narrow at times."),
    ("How do I list files?", "Type `ls`."),
    ("What do bees eat?", "Nectar and pollen."),
]
DIALOGUES = [
    Dialogue(id=str(i), messages=[{"role": "user", "content": q}, {"role": "assistant", "content": a}])
    for i, (q, a) in enumerate(TALKS)
]


@pytest.fixture(scope="module")
def rows(tokenizer):
    return finetune.encode_all(DIALOGUES, tokenizer, 128).rows


def lengths(batches):
    return [batch["input_ids"].shape[1] for batch in batches]


def ids(batches):
    """The dialogues in the batches, without their padding, in order."""
    return [
        tuple(row[: mask.sum()].tolist())
        for batch in batches
        for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


# --- what a setting changes


def test_every_setting_but_the_first_two_changes_one_thing():
    fields = [f.name for f in dataclasses.fields(Setting)][1:]
    for setting in ablations.SETTINGS[2:]:
        assert sum(getattr(setting, name) != getattr(BASELINE, name) for name in fields) == 1, setting
    assert len({setting.name for setting in ablations.SETTINGS}) == len(ablations.SETTINGS) >= 7


@pytest.mark.parametrize("setting", ablations.SETTINGS, ids=lambda s: s.name)
def test_batches_hold_every_dialogue_once_an_epoch(rows, setting):
    batches = list(ablations.batches(rows, 2, setting, seed=1, limit=128))
    assert sorted(ids(batches)) == sorted(tuple(row["input_ids"]) for row in rows * setting.epochs)
    assert ids(batches) == ids(ablations.batches(rows, 2, setting, seed=1, limit=128))


def test_order_comes_from_the_seed(rows):
    orders = [ids(ablations.batches(rows, 2, Setting("x", padded=True), seed, 128)) for seed in range(4)]
    assert len({tuple(order) for order in orders}) > 1


def test_grouped_batches_are_filled_to_their_longest_and_padded_ones_to_the_limit(rows):
    by_length = sorted(len(row["input_ids"]) for row in rows)
    assert sorted(lengths(ablations.batches(rows, 2, BASELINE, limit=128))) == by_length[1::2]
    padded = list(ablations.batches(rows, 2, Setting("padded", padded=True), limit=128))
    assert lengths(padded) == [128, 128]
    for batch in padded:
        assert (batch["labels"][batch["attention_mask"] == 0] == finetune.IGNORE).all()


def test_loss_on_everything_learns_every_token_but_padding(rows):
    (batch,) = ablations.batches(rows[:2], 2, Setting("all", everything=True))
    assert torch.equal(batch["labels"] != finetune.IGNORE, batch["attention_mask"] == 1)
    (batch,) = ablations.batches(rows[:2], 2, BASELINE)
    learned = sum(label != finetune.IGNORE for row in rows[:2] for label in row["labels"])
    assert 0 < (batch["labels"] != finetune.IGNORE).sum() == learned < batch["attention_mask"].sum()


# --- training


@pytest.fixture(scope="module")
def model(small_base):
    return models.load(small_base)[0]


@pytest.fixture(scope="module")
def losses(model, rows):
    """Held-out loss by setting and seed; the dialogues are held-out ones and trained ones at the same time."""
    settings = (Setting("not trained", epochs=0), BASELINE, Setting("rank 2", rank=2))
    found = {(s.name, 0): ablations.tune(model, 2, rows[:2], rows[:2], s, 0, 128)[0] for s in settings}
    for seed in (0, 1):
        found["again", seed] = ablations.tune(model, 2, rows[:2], rows[:2], BASELINE, seed, 128)[0]
    return found


def test_tuning_lowers_the_loss_and_leaves_the_base_model_as_it_was(model, tokenizer, losses):
    untouched = finetune.heldout_loss(model, DIALOGUES[:2], tokenizer, 128)
    assert losses["not trained", 0] == pytest.approx(untouched, abs=1e-5)
    assert losses["baseline", 0] < untouched
    assert not hasattr(model, "peft_config")
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


def test_a_result_is_that_of_its_seed_and_setting(losses):
    assert losses["again", 0] == losses["baseline", 0]
    assert len({losses["baseline", 0], losses["again", 1], losses["rank 2", 0]}) == 3


# --- the rank of an update


@pytest.fixture
def tuned(model):
    """The base model with an update of rank 4 whose directions weigh 8, 4, 2 and 1."""
    profile = dataclasses.replace(profiles.get("ci"), rank=4, targets=("q_proj", "down_proj"))
    tuned = finetune.add_lora(model, profile).eval()
    generator = torch.Generator().manual_seed(0)
    for a, b in ablations._updates(tuned):
        q, _ = torch.linalg.qr(torch.randn(a.shape[1], 4, generator=generator))
        p, _ = torch.linalg.qr(torch.randn(b.shape[0], 4, generator=generator))
        a.data, b.data = q.T.contiguous(), p * torch.tensor([8.0, 4.0, 2.0, 1.0])
    yield tuned
    tuned.unload()


def test_the_best_approximation_is_that_of_the_singular_values(tuned):
    updates = ablations._updates(tuned)
    assert len(updates) == 2 * 2
    a, b = updates[0]
    left, values, right = torch.linalg.svd(b.data @ a.data, full_matrices=False)
    for rank in range(5):
        with ablations.keeping(tuned, rank):
            best = left[:, :rank] * values[:rank] @ right[:rank]
            assert torch.allclose(b.data @ a.data, best, atol=1e-4), rank


def test_afterwards_the_update_is_as_before_even_where_something_failed(tuned):
    before = [(a.data.clone(), b.data.clone()) for a, b in ablations._updates(tuned)]
    with pytest.raises(RuntimeError), ablations.keeping(tuned, 1):
        raise RuntimeError
    for (a, b), (old_a, old_b) in zip(ablations._updates(tuned), before, strict=True):
        assert torch.equal(a.data, old_a) and torch.equal(b.data, old_b)


def test_keeping_nothing_is_the_base_model_and_keeping_all_changes_nothing(tuned):
    tokens = torch.tensor([[1, 5, 9, 13]])
    with torch.no_grad():
        everything = tuned(tokens).logits
        with tuned.disable_adapter():
            bare = tuned(tokens).logits
        with ablations.keeping(tuned, 0):
            assert torch.allclose(tuned(tokens).logits, bare, atol=1e-4)
        with ablations.keeping(tuned, 4):
            assert torch.allclose(tuned(tokens).logits, everything, atol=1e-2 * everything.abs().max())
    assert not torch.allclose(bare, everything, atol=1e-2)


def test_spectrum_is_the_share_of_each_direction(tuned):
    assert ablations.spectrum(tuned) == pytest.approx([64 / 85, 16 / 85, 4 / 85, 1 / 85], abs=1e-4)


# --- the table


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A corpus of four dialogues, and how long each setting would take; nothing is trained."""
    for name, dialogues in (("train", DIALOGUES), ("heldout", DIALOGUES[:2])):
        corpus.write(dialogues, tmp_path / f"{name}.jsonl")
    calls = []

    def tune(model, pad_id, train, heldout, setting, seed):
        calls.append((setting.name, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 1.0 + seed / 100 + len(setting.name) / 1000, 1.0

    for name, value in (("tune", tune), ("SETTINGS", ablations.SETTINGS[:2]), ("DIALOGUES", 4)):
        monkeypatch.setattr(ablations, name, value)
    return tmp_path, calls


def make(folder):
    return ablations.make_table(folder / "table.csv", seeds=(0, 1), folder=folder)


def test_an_interrupted_table_goes_on(tiny):
    folder, calls = tiny
    with pytest.raises(KeyboardInterrupt):
        make(folder)
    assert len(ablations.read_table(folder / "table.csv")) == 2
    rows = make(folder)
    every = list(itertools.product((0, 1), ("not trained", "baseline")))
    assert [(row["seed"], row["setting"]) for row in rows] == every
    assert sorted(calls[3:]) == sorted((name, seed) for seed, name in every[2:]), "what was done is not done again"
    assert rows == ablations.read_table(folder / "table.csv")
    manifest = common.manifest_path(folder / "table.csv").read_text()
    assert "cores" in manifest and str(folder) not in manifest


def test_a_table_of_other_settings_is_refused(tiny, monkeypatch):
    folder, calls = tiny
    calls += [None] * 3
    make(folder)
    monkeypatch.setattr(ablations, "LIMIT", 64)
    with pytest.raises(CourseError, match="other data or settings"):
        make(folder)
    (folder / "table.csv").write_text("name,loss\na,1\n")
    with pytest.raises(CourseError, match="no table of ablations"):
        make(folder)


def result(setting, seed, loss):
    return {"setting": setting, "seed": seed, "heldout_loss": loss, "seconds": 10.0 + seed, "recipe": "0"}


TABLE = [
    result(*row)
    for row in (
        ("baseline", 0, 1.20), ("baseline", 1, 1.30), ("low", 0, 1.10), ("low", 1, 1.12),
        ("same", 0, 1.25), ("same", 1, 1.40), ("high", 0, 1.31), ("high", 1, 1.32),
    )
]  # fmt: skip


def test_summary_says_which_differences_are_clear():
    found = {row["setting"]: row for row in ablations.summary(TABLE)}
    assert [found[name]["clear"] for name in ("baseline", "low", "same", "high")] == [False, True, False, True]
    assert found["low"]["loss"] == pytest.approx(1.11) and found["low"]["change"] == pytest.approx(-0.14)
    assert (found["same"]["lowest"], found["same"]["highest"], found["same"]["seeds"]) == (1.25, 1.40, 2)
    assert found["baseline"]["seconds"] == 10.0


def test_the_shipped_table_is_whole():
    rows = ablations.read_table(common.DATA / "ablations.csv")
    runs = {(row["setting"], row["seed"]) for row in rows}
    assert runs == set(itertools.product((s.name for s in ablations.SETTINGS), range(3))) and len(rows) == len(runs)


def test_the_shipped_table_is_of_this_code_and_data(tokenizer):
    shipped = ablations.read_table(common.DATA / "ablations.csv")
    *_, recipes, _ = ablations._plan(tokenizer, None)
    assert all(row["recipe"] == recipes[row["setting"]] for row in shipped), "make data/ablations.csv anew"


# --- figures


@pytest.mark.parametrize(
    ("fig", "words"),
    [
        (lambda: figures.settings(TABLE), {"baseline", "low", "same", "high"}),
        (lambda: figures.kept([(0, 1.4), (1, 1.2), (2, 1.1)], [0.9, 0.1]), {"1.40", "1.10"}),
    ],
)
def test_figures_draw(fig, words):
    fig = fig()
    assert plots.png(fig).startswith(b"\x89PNG")
    assert words <= {text.get_text() for text in fig.findobj(Text)}


def test_command_names_its_trouble(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("name,loss\na,1\n")
    assert ablations.main(["--out", str(tmp_path / "t.csv"), "--seeds", "0"]) == 1
    assert "no table of ablations" in capsys.readouterr().err
    assert (tmp_path / "t.csv").read_text() == "name,loss\na,1\n"
