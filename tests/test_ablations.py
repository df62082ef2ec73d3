"""The ablations: what a setting changes, the update's rank, and the table."""

import dataclasses
import itertools
import json

import pytest
import torch
from smalltalk import DIALOGUES, TINY

from baize_nb import common, corpus, finetune, models, plots
from baize_nb.finetune import ablations
from baize_nb.finetune.ablations import SETTINGS, Setting
from baize_nb.plots import training as figures


@pytest.fixture(scope="module")
def rows(tokenizer):
    return finetune.encode_all(DIALOGUES, tokenizer, 128).rows


@pytest.fixture(scope="module")
def model(small_base):
    return models.load(small_base)[0]


def test_every_setting_but_the_first_two_changes_one_thing():
    baseline = dataclasses.asdict(Setting("baseline")).items()
    for setting in SETTINGS[2:]:
        assert len(dataclasses.asdict(setting).items() - baseline) == 2, setting  # its name, and what it changes
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS) >= 7


def test_batches_hold_every_dialogue_once_an_epoch_and_learn_what_the_setting_says(rows):
    for setting in SETTINGS:
        found = list(ablations.batches(rows, 2, setting, seed=1, limit=128))
        again = list(ablations.batches(rows, 2, setting, seed=1, limit=128))
        assert all(torch.equal(one[name], two[name]) for one, two in zip(found, again, strict=True) for name in one)
        ids = [[i for i in row.tolist() if i != 2] for batch in found for row in batch["input_ids"]]
        assert sorted(ids) == sorted([i for i in row["input_ids"] if i != 2] for row in rows * setting.epochs)
        tokens = sum(len(row["input_ids"]) for row in rows) * setting.epochs
        learned = sum(int((batch["labels"] != finetune.IGNORE).sum()) for batch in found)
        assert learned == tokens if setting.everything else learned <= tokens * 0.8
        widths = {batch["labels"].shape[1] for batch in found}
        assert not setting.padded or widths == {128}


def test_a_result_is_that_of_its_seed_and_setting_and_the_base_model_stays_as_it_was(model, tokenizer, rows):
    untouched = finetune.heldout_loss(model, DIALOGUES[:2], tokenizer, 128)
    base = Setting("baseline")
    runs = (("none", SETTINGS[0], 0), ("base", base, 0), ("again", base, 0), ("seed", base, 1))
    runs = [*runs, ("rank", Setting("rank 2", rank=2), 0)]
    loss = {name: ablations.tune(model, 2, rows[:2], rows[:2], s, seed, 128)[0] for name, s, seed in runs}
    assert loss["none"] == pytest.approx(untouched, abs=1e-5) and loss["base"] < untouched
    assert loss["again"] == loss["base"] and len({loss["base"], loss["seed"], loss["rank"]}) == 3
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


def test_the_best_approximation_is_that_of_the_singular_values_and_goes_away_again(model):
    """An update of rank 4 whose directions weigh 8, 4, 2 and 1."""
    tuned = finetune.add_lora(model, dataclasses.replace(TINY, rank=4, targets=("q_proj", "down_proj"))).eval()
    layers = [m for m in tuned.modules() if "default" in getattr(m, "lora_A", {})]
    generator = torch.Generator().manual_seed(0)
    for layer in layers:
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        a.data = torch.linalg.qr(torch.randn(a.shape[1], 4, generator=generator))[0].T.contiguous()
        b.data = torch.linalg.qr(torch.randn(b.shape[0], 4, generator=generator))[0] * torch.tensor([8.0, 4, 2, 1])

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
    tuned.unload()


def test_the_shipped_table_is_whole_and_of_these_settings_and_this_data(tmp_path, monkeypatch, capsys):
    shipped = ablations.read_table(common.DATA / "ablations.csv")
    every = list(itertools.product(ablations.SEEDS, [setting.name for setting in SETTINGS]))
    assert [(row["seed"], row["setting"]) for row in shipped] == every
    notes = json.loads(common.manifest_path(common.DATA / "ablations.csv").read_text())
    assert notes["settings"] == [dataclasses.asdict(setting) for setting in SETTINGS], "make the table anew"

    for name, dialogues in (("train", DIALOGUES), ("heldout", DIALOGUES[:2])):
        corpus.write(dialogues, tmp_path / f"{name}.jsonl")
    monkeypatch.setattr(ablations, "DIALOGUES", 4)
    monkeypatch.setattr(ablations, "tune", lambda *arguments: (1.25, 2.0))
    ablations.make_table(tmp_path / "table.csv", tmp_path)
    made = ablations.read_table(tmp_path / "table.csv")
    assert [row.keys() for row in made] == [made[0].keys()] * len(every) and made[0]["heldout_loss"] == 1.25
    assert str(tmp_path) not in common.manifest_path(tmp_path / "table.csv").read_text()


LOSSES = {"baseline": (1.20, 1.30), "low": (1.10, 1.12), "same": (1.25, 1.40), "high": (1.31, 1.32)}
TABLE = [
    {"setting": setting, "seed": seed, "heldout_loss": loss, "seconds": 10.0 + seed}
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
