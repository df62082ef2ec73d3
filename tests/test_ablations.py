"""The ablations: what a setting changes, the update's rank, and a table that goes on where it was interrupted."""

import dataclasses
import itertools

import pytest
import torch
from smalltalk import DIALOGUES, TINY

from baize_nb import common, corpus, finetune, models, plots
from baize_nb.common import CourseError
from baize_nb.finetune import ablations
from baize_nb.finetune.ablations import SETTINGS, Setting
from baize_nb.plots import training as figures

BASELINE = Setting("baseline")


@pytest.fixture(scope="module")
def rows(tokenizer):
    return finetune.encode_all(DIALOGUES, tokenizer, 128).rows


@pytest.fixture(scope="module")
def model(small_base):
    return models.load(small_base)[0]


def ids(batches):
    """The dialogues in the batches, without their padding, in order."""
    pairs = [pair for b in batches for pair in zip(b["input_ids"], b["attention_mask"], strict=True)]
    return [tuple(row[: mask.sum()].tolist()) for row, mask in pairs]


# --- what a setting changes


def test_every_setting_but_the_first_two_changes_one_thing():
    fields = [f.name for f in dataclasses.fields(Setting)][1:]
    for setting in SETTINGS[2:]:
        assert sum(getattr(setting, name) != getattr(BASELINE, name) for name in fields) == 1, setting
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS) >= 7


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_batches_hold_every_dialogue_once_an_epoch_and_learn_what_the_setting_says(rows, setting):
    batches = list(ablations.batches(rows, 2, setting, seed=1, limit=128))
    assert sorted(ids(batches)) == sorted(tuple(row["input_ids"]) for row in rows * setting.epochs)
    assert ids(batches) == ids(ablations.batches(rows, 2, setting, seed=1, limit=128))
    longest = sorted(len(row["input_ids"]) for row in rows)[1::2] * setting.epochs
    assert sorted(b["input_ids"].shape[1] for b in batches) == sorted([128, 128] if setting.padded else longest)
    for batch in batches:
        shown, learned = batch["attention_mask"] == 1, batch["labels"] != finetune.IGNORE
        assert torch.equal(learned, shown) if setting.everything else 0 < learned.sum() < shown.sum()
        assert not learned[~shown].any()


def test_a_result_is_that_of_its_seed_and_setting_and_the_base_model_stays_as_it_was(model, tokenizer, rows):
    untouched = finetune.heldout_loss(model, DIALOGUES[:2], tokenizer, 128)
    runs = (("none", SETTINGS[0], 0), ("base", BASELINE, 0), ("again", BASELINE, 0), ("seed", BASELINE, 1))
    runs = [*runs, ("rank", Setting("rank 2", rank=2), 0)]
    loss = {name: ablations.tune(model, 2, rows[:2], rows[:2], s, seed, 128)[0] for name, s, seed in runs}
    assert loss["none"] == pytest.approx(untouched, abs=1e-5) and loss["base"] < untouched
    assert loss["again"] == loss["base"] and len({loss["base"], loss["seed"], loss["rank"]}) == 3
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


# --- the rank of an update


@pytest.fixture
def tuned(model):
    """The base model with an update of rank 4 whose directions weigh 8, 4, 2 and 1; also its LoRA layers."""
    tuned = finetune.add_lora(model, dataclasses.replace(TINY, rank=4, targets=("q_proj", "down_proj"))).eval()
    layers = [m for m in tuned.modules() if "default" in getattr(m, "lora_A", {})]
    generator = torch.Generator().manual_seed(0)
    for layer in layers:
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        a.data = torch.linalg.qr(torch.randn(a.shape[1], 4, generator=generator))[0].T.contiguous()
        b.data = torch.linalg.qr(torch.randn(b.shape[0], 4, generator=generator))[0] * torch.tensor([8.0, 4, 2, 1])
    yield tuned, layers
    tuned.unload()


def test_the_best_approximation_is_that_of_the_singular_values_and_goes_away_again(tuned):
    tuned, layers = tuned

    def updates():
        return [layer.lora_B["default"].weight.data @ layer.lora_A["default"].weight.data for layer in layers]

    before = updates()
    left, values, right = torch.linalg.svd(before[0], full_matrices=False)
    for rank in range(5):
        with ablations.keeping(tuned, rank):
            assert torch.allclose(updates()[0], left[:, :rank] * values[:rank] @ right[:rank], atol=1e-4), rank
    with pytest.raises(RuntimeError), ablations.keeping(tuned, 1):
        raise RuntimeError
    assert len(before) == 4 and all(torch.equal(a, b) for a, b in zip(updates(), before, strict=True))
    assert ablations.spectrum(tuned) == pytest.approx([64 / 85, 16 / 85, 4 / 85, 1 / 85], abs=1e-4)


# --- the table


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A corpus of four dialogues, two settings, and how long each would take; nothing is trained."""
    for name, dialogues in (("train", DIALOGUES), ("heldout", DIALOGUES[:2])):
        corpus.write(dialogues, tmp_path / f"{name}.jsonl")
    calls = []

    def tune(model, pad_id, train, heldout, setting, seed):
        calls.append((setting.name, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 1.0 + seed / 100 + len(setting.name) / 1000, 1.0

    for name, value in (("tune", tune), ("SETTINGS", SETTINGS[:2]), ("DIALOGUES", 4)):
        monkeypatch.setattr(ablations, name, value)
    return tmp_path / "table.csv", calls


def test_an_interrupted_table_goes_on_and_one_of_other_settings_is_refused(tiny, monkeypatch, capsys):
    table, calls = tiny
    with pytest.raises(KeyboardInterrupt):
        ablations.make_table(table, (0, 1), table.parent)
    assert len(ablations.read_table(table)) == 2
    rows = ablations.make_table(table, (0, 1), table.parent)
    every = list(itertools.product((0, 1), ("not trained", "baseline")))
    assert [(row["seed"], row["setting"]) for row in rows] == every and rows == ablations.read_table(table)
    assert sorted(calls[3:]) == sorted((name, seed) for seed, name in every[2:]), "what was done is not done again"
    manifest = common.manifest_path(table).read_text()
    assert "cores" in manifest and str(table.parent) not in manifest
    monkeypatch.setattr(ablations, "LIMIT", 64)
    with pytest.raises(CourseError, match="other data or settings"):
        ablations.make_table(table, (0, 1), table.parent)
    table.write_text("name,loss\na,1\n")
    assert ablations.main(["--out", str(table), "--seeds", "0"]) == 1
    assert "no table of ablations" in capsys.readouterr().err and table.read_text() == "name,loss\na,1\n"


def test_the_shipped_table_is_whole_and_of_this_code_and_data(tokenizer):
    shipped = ablations.read_table(common.DATA / "ablations.csv")
    *_, recipes, _ = ablations._plan(tokenizer, None)
    runs = [(row["setting"], row["seed"]) for row in shipped]
    assert sorted(runs) == sorted(itertools.product(recipes, range(3)))
    assert all(row["recipe"] == recipes[row["setting"]] for row in shipped), "make data/ablations.csv anew"


LOSSES = {"baseline": (1.20, 1.30), "low": (1.10, 1.12), "same": (1.25, 1.40), "high": (1.31, 1.32)}
TABLE = [
    {"setting": setting, "seed": seed, "heldout_loss": loss, "seconds": 10.0 + seed, "recipe": "0"}
    for setting, losses in LOSSES.items()
    for seed, loss in enumerate(losses)
]


def test_summary_says_which_differences_are_clear_and_figures_draw_them():
    found = {row["setting"]: row for row in ablations.summary(TABLE)}
    assert [found[name]["clear"] for name in LOSSES] == [False, True, False, True]
    assert found["low"]["loss"] == pytest.approx(1.11) and found["low"]["change"] == pytest.approx(-0.14)
    assert [found["same"][key] for key in ("lowest", "highest", "seeds", "seconds")] == [1.25, 1.40, 2, 10.0]
    for fig in (figures.settings(TABLE), figures.kept([(0, 1.4), (1, 1.2), (2, 1.1)], [0.9, 0.1])):
        assert plots.png(fig).startswith(b"\x89PNG")
