"""What each choice of the recipe is worth: change one, train, look at the held-out loss; three times, by three seeds.

`python -m baize_nb.finetune.ablations` makes the table anew, in a quarter of an hour on two cores.
"""

import itertools
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from .. import common, corpus, models, profiles
from .fast_lora import use_fast_lora
from .tokens import IGNORE, collate, encode_all
from .training import add_lora, loss_sums, summed_loss

BATCH = 2  # dialogues per step
LIMIT = 512  # tokens per dialogue; Baize's
DIALOGUES = 12
SCALE = 2  # alpha / rank, as in Baize: a higher rank must not also mean a larger step
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """One row of the table. The defaults are the baseline; every other setting changes one thing."""

    name: str
    rank: int = 8
    epochs: int = 1
    everything: bool = False  # the loss goes over every token, as in Baize, not over the assistant's alone
    padded: bool = False  # every dialogue is filled up to the limit, as in Baize, not grouped by length


SETTINGS = (
    Setting("not trained", epochs=0),
    Setting("baseline"),
    Setting("rank 2", rank=2),
    Setting("rank 32", rank=32),
    Setting("loss on all tokens", everything=True),
    Setting("padded to 512", padded=True),
    Setting("three epochs", epochs=3),
)


def tune(model, pad_id: int, train: Sequence, heldout: Sequence, setting: Setting, seed=0, limit=LIMIT) -> tuple:
    """Train fresh LoRA layers on rows of `encode`, take them off again; return (held-out loss, seconds of training).

    seed : decides LoRA's first A, the order of the dialogues, and dropout.
    A loop without warm-up, accumulation or checkpoints; its layers and its loss are those of `train`.
    """
    profile = profiles.get("laptop")
    tuned = use_fast_lora(add_lora(model, replace(profile, rank=setting.rank, alpha=SCALE * setting.rank)))
    torch.manual_seed(seed)
    for module in tuned.modules():
        if hasattr(module, "reset_lora_parameters"):  # add_lora always draws the same A
            module.reset_lora_parameters("default", init_lora_weights=True)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], profile.learning_rate)
    start = time.perf_counter()
    tuned.train()
    for batch in batches(train, pad_id, setting, seed, limit):
        loss, tokens = summed_loss(tuned, batch)
        (loss / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    total, tokens = loss_sums(tuned, heldout, pad_id)
    tuned.unload()
    return total / tokens, seconds


def batches(rows: Sequence[dict], pad_id: int, setting: Setting, seed: int = 0, limit: int = LIMIT) -> Iterator[dict]:
    """Yield batches of tensors for all epochs of a setting: like lengths together, or each filled up to `limit`."""
    rng, filled = random.Random(seed), []
    for row in rows:
        ids = row["input_ids"]
        labels = ids if setting.everything else row["labels"]
        rest = limit - len(ids) if setting.padded else 0
        filled.append({"input_ids": ids + [pad_id] * rest, "labels": labels + [IGNORE] * rest})
    for _ in range(setting.epochs):
        order = rng.sample(filled, len(filled))
        order.sort(key=lambda row: len(row["input_ids"]))
        groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        for group in rng.sample(groups, len(groups)):
            yield collate(group, pad_id)


def read_table(path: Path | str) -> list[dict]:
    """Read a table of `make_table`: [{"setting", "seed", "heldout_loss", "seconds"}]."""
    return pd.read_csv(path).to_dict("records")


def summary(rows: Sequence[dict]) -> list[dict]:
    """Sum up each setting over its seeds.

    seconds : the least, since other programs disturb. change : of the mean loss, against the baseline.
    clear   : whether its range of losses does not touch the baseline's.
    """
    settings = pd.DataFrame(rows).groupby("setting", sort=False)
    found = settings["heldout_loss"].agg(seeds="count", loss="mean", lowest="min", highest="max")
    base = found.loc["baseline"]
    found["seconds"] = settings["seconds"].min()
    found["change"] = found["loss"] - base["loss"]
    found["clear"] = (found["lowest"] > base["highest"]) | (found["highest"] < base["lowest"])
    return found.reset_index().to_dict("records")


def make_table(path: Path | str = common.DATA / "ablations.csv", folder: Path | str = common.DATA / "corpus") -> None:
    """Write the table of every setting and seed, on `DIALOGUES` of train.jsonl and all of heldout.jsonl in a folder."""
    model, tokenizer = models.load()
    sources = [Path(folder) / "train.jsonl", Path(folder) / "heldout.jsonl"]
    train, heldout = (corpus.read(path) for path in sources)
    chosen = random.Random(0).sample(train, DIALOGUES)
    train, heldout = (encode_all(dialogues, tokenizer, LIMIT).rows for dialogues in (chosen, heldout))
    rows = []
    for seed, setting in itertools.product(SEEDS, SETTINGS):
        loss, seconds = tune(model, tokenizer.eos_token_id, train, heldout, setting, seed)
        print(f"seed {seed} · {setting.name:20} held-out loss {loss:.4f} · {seconds:.0f} s", flush=True)
        rows.append((setting.name, seed, round(loss, 4), round(seconds, 1)))
    table = pd.DataFrame(rows, columns=["setting", "seed", "heldout_loss", "seconds"])
    common.write_text(path, table.to_csv(index=False, lineterminator="\n"))
    facts = {"base": models.NAME, "batch": BATCH, "limit": LIMIT, "dialogues": DIALOGUES}
    facts["settings"] = [asdict(setting) for setting in SETTINGS]
    common.write_manifest(path, "python -m baize_nb.finetune.ablations", sources, **facts)


def spectrum(tuned) -> list[float]:
    """Return the share of an update's squared size in each direction, largest first, averaged over all matrices."""
    squares = torch.stack([values**2 for *_, values, _ in _updates(tuned)])
    return (squares / squares.sum(1, keepdim=True)).mean(0).tolist()


@contextmanager
def keeping(tuned, rank: int) -> Iterator[None]:
    """Replace every update, inside the block, by its best approximation of this rank; afterwards it is as before."""
    updates = [(a, b, a.data, b.data, *parts) for a, b, *parts in _updates(tuned)]
    try:
        for a, b, _, _, left, values, right in updates:
            values[rank:] = 0
            a.data, b.data = right, left * values
        yield
    finally:
        for a, b, old_a, old_b, *_ in updates:
            a.data, b.data = old_a, old_b


def _updates(tuned):
    """[(A, B, left, singular values, right)] of all LoRA layers, the values of B A largest first.

    Cheaply, without building B A: with B = Q R and A' = P S, B A is Q (R S') P', and R S' is only r × r.
    """
    found = []
    for layer in tuned.modules():
        if "default" in getattr(layer, "lora_A", {}):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            q, r = torch.linalg.qr(b.data)
            p, s = torch.linalg.qr(a.data.T)
            left, values, right = torch.linalg.svd(r @ s.T)
            found.append((a, b, q @ left, values, right @ p.T))
    return found


if __name__ == "__main__":
    make_table(*sys.argv[1:])
