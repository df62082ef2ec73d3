"""What each choice of the recipe is worth: change one, train, look at the held-out loss; three times, by three seeds.

    python -m baize_nb.finetune.ablations --out data/ablations.csv       made the table; half an hour on one core
    python -m baize_nb.finetune.ablations --out FILE --minutes 5         a part of it; the next call goes on

And how much of its rank a trained update uses.
"""

import argparse
import hashlib
import itertools
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import pad

from .. import common, corpus, models, profiles
from ..common import CourseError
from .fast_lora import use_fast_lora
from .tokens import IGNORE, collate, encode_all
from .training import add_lora, learned, rows_loss, summed_loss

BATCH = 2  # dialogues per step
LIMIT = 512  # tokens per dialogue; Baize's
DIALOGUES = 12
SCALE = 2  # alpha / rank, as in Baize: a higher rank must not also mean a larger step
COLUMNS = {"setting": str, "seed": int, "heldout_loss": float, "seconds": float, "recipe": str}


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


def tune(
    model, pad_id: int, train: Sequence[dict], heldout: Sequence[dict], setting: Setting, seed: int = 0, limit=LIMIT
) -> tuple[float, float]:
    """Train fresh LoRA layers, take them off again; return (held-out loss, seconds of training).

    train, heldout : rows of `encode`. The held-out loss is that of the assistant's tokens, whatever was trained on, in
    nats per token. seed : decides LoRA's first A, the order of the dialogues, and dropout.
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
        loss = summed_loss(tuned, batch) / learned(batch["labels"]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    loss = rows_loss(tuned, heldout, pad_id)
    tuned.unload()
    return loss, seconds


def batches(rows: Sequence[dict], pad_id: int, setting: Setting, seed: int = 0, limit: int = LIMIT) -> Iterator[dict]:
    """Yield batches of tensors for all epochs of a setting: like lengths together, or each filled up to `limit`."""
    rng, fill = random.Random(seed), {"input_ids": pad_id, "attention_mask": 0, "labels": IGNORE}
    if setting.everything:
        rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in rows]
    for _ in range(setting.epochs):
        order = rng.sample(rows, len(rows))
        if not setting.padded:
            order.sort(key=lambda row: len(row["input_ids"]))
        groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        for group in rng.sample(groups, len(groups)):
            batch = collate(group, pad_id)
            if setting.padded:
                batch = {name: pad(t, (0, limit - t.shape[1]), value=fill[name]) for name, t in batch.items()}
            yield batch


def read_table(path: Path | str) -> list[dict]:
    """Read a table: [{"setting", "seed", "heldout_loss", "seconds", "recipe"}], no rows where there is no file."""
    if not Path(path).is_file():
        return []
    try:
        return pd.read_csv(path, dtype=COLUMNS)[list(COLUMNS)].to_dict("records")
    except (KeyError, ValueError) as error:
        raise CourseError(
            f"{common.show(path)} is no table of ablations ({error}). Name another file, or delete it."
        ) from error


def summary(rows: Sequence[dict]) -> list[dict]:
    """Sum up each setting over its seeds, in the order of the rows.

    Keys: setting, seeds (how many), loss (mean), lowest, highest, seconds (the least: other programs slow a run down
    at times), change (of the mean loss against the baseline), clear (True where its range of losses does not touch the
    baseline's).
    """
    settings = pd.DataFrame(rows).groupby("setting", sort=False)
    found = settings["heldout_loss"].agg(seeds="count", loss="mean", lowest="min", highest="max")
    base = found.loc["baseline"]
    found["seconds"] = settings["seconds"].min()
    found["change"] = found["loss"] - base["loss"]
    found["clear"] = (found["lowest"] > base["highest"]) | (found["highest"] < base["lowest"])
    return found.reset_index().to_dict("records")


def make_table(path: Path | str, seeds=(0, 1, 2), folder: Path | str | None = None, minutes=math.inf) -> list[dict]:
    """Fill a table with every setting and seed that it does not have yet; return its rows.

    The file is written whole after each result: an interrupted table goes on. folder : of train.jsonl and
    heldout.jsonl; default: the shipped corpus. minutes : no run is begun after that time.
    Raises CourseError where the file came from other data or settings.
    """
    rows, (model, tokenizer) = read_table(path), models.load()
    train, heldout, recipes, sources = _plan(tokenizer, folder)
    if any(row["recipe"] != recipes.get(row["setting"]) for row in rows):
        raise CourseError(f"{common.show(path)} came from other data or settings. Name another file, or delete it.")
    done = {(row["setting"], row["seed"]) for row in rows}
    end = time.monotonic() + 60 * minutes
    for seed, setting in itertools.product(seeds, SETTINGS):
        if (setting.name, seed) in done or time.monotonic() > end:
            continue
        loss, seconds = tune(model, tokenizer.eos_token_id, train, heldout, setting, seed)
        values = (setting.name, seed, round(loss, 4), round(seconds, 1), recipes[setting.name])
        rows.append(dict(zip(COLUMNS, values, strict=True)))
        common.write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
        print(f"seed {seed} · {setting.name:20} held-out loss {loss:.4f} · {seconds:.0f} s", flush=True)
    threads, sort = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    common.write_manifest(
        path,
        f"python -m baize_nb.finetune.ablations --out {common.show(path)}",
        sources,
        base=models.NAME,
        machine=f"{threads} of {os.cpu_count()} cores, {platform.machine()}, {sort}, float32",
        settings=[asdict(setting) for setting in SETTINGS],
        batch=BATCH,
        limit=LIMIT,
        dialogues=DIALOGUES,
    )
    return rows


def _plan(tokenizer, folder):
    """(rows to train on, held-out rows, {setting: eight hex digits of all that decides its result}, files).

    The same dialogues of train.jsonl each time, and all of heldout.jsonl.
    """
    sources = [Path(folder or common.DATA / "corpus") / name for name in ("train.jsonl", "heldout.jsonl")]
    train, heldout = (corpus.read(path) for path in sources)
    chosen = random.Random(0).sample(train, DIALOGUES)
    train, heldout = (encode_all(dialogues, tokenizer, LIMIT).rows for dialogues in (chosen, heldout))
    recipes, rate = {}, profiles.get("laptop").learning_rate
    for setting in SETTINGS:
        text = json.dumps([train, heldout, LIMIT, asdict(setting), BATCH, SCALE, rate, models.GGUF_SHA256])
        recipes[setting.name] = hashlib.sha256(text.encode()).hexdigest()[:8]
    return train, heldout, recipes, sources


def spectrum(tuned) -> list[float]:
    """Return the share of the update's squared size in each direction, largest first, averaged over all matrices.

    tuned : a peft model that was trained (an update that is zero has no directions). Returns r numbers that sum to 1.
    """
    squares = torch.stack([_directions(a.data, b.data)[1] ** 2 for a, b in _updates(tuned)])
    return (squares / squares.sum(1, keepdim=True)).mean(0).tolist()


@contextmanager
def keeping(tuned, rank: int) -> Iterator[None]:
    """Replace every update, inside the block, by its best approximation of this rank; afterwards it is as before."""
    updates = _updates(tuned)
    before = [(a.data, b.data) for a, b in updates]
    try:
        for a, b in updates:
            left, values, right = _directions(a.data, b.data)
            values[rank:] = 0
            a.data, b.data = right, left * values
        yield
    finally:
        for (a, b), (old_a, old_b) in zip(updates, before, strict=True):
            a.data, b.data = old_a, old_b


def _updates(tuned):
    """[(A, B)] of all LoRA layers."""
    layers = [m for m in tuned.modules() if "default" in getattr(m, "lora_A", {})]
    return [(layer.lora_A["default"].weight, layer.lora_B["default"].weight) for layer in layers]


def _directions(a, b):
    """(left, singular values, right) of b @ a: (outputs, rank), (rank,) largest first, (rank, inputs).

    Cheaply, without building B A: with B = Q R and A' = P S, B A is Q (R S') P', and R S' is only r × r.
    """
    q, r = torch.linalg.qr(b)
    p, s = torch.linalg.qr(a.T)
    left, values, right = torch.linalg.svd(r @ s.T)
    return q @ left, values, right @ p.T


def main(given: Sequence[str] | None = None) -> int:
    """Make or go on with a table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m baize_nb.finetune.ablations", description="Make the table.")
    parser.add_argument("--out", required=True, help="the table: a .csv file, which is gone on with where it exists")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after that time; go on later")
    chosen = parser.parse_args(given)
    try:
        make_table(chosen.out, chosen.seeds, minutes=chosen.minutes)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
