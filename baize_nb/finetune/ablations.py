"""What each choice of the recipe is worth: change one, train, look at the held-out loss; three times, by three seeds.

Knows: the choices that are compared, a training loop of the plainest kind, and a table that goes on where it was
interrupted. Does not know: checkpoints, progress or speed; see training.py for a real run. Built in notebook 04, which
reads the table in data/ablations.csv:

    python -m baize_nb.finetune.ablations --out data/ablations.csv       made it; half an hour on one core
    python -m baize_nb.finetune.ablations --out FILE --minutes 5         a part of it; the next call goes on
"""

import argparse
import csv
import hashlib
import io
import itertools
import json
import math
import os
import platform
import random
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.nn.functional import pad

from .. import common, corpus, models, profiles
from ..common import CourseError
from .fastlora import quicken
from .loss import learned, rows_loss, summed_loss
from .tokens import IGNORE, collate, encode_all
from .training import add_lora

BATCH = 2  # dialogues per step
LIMIT = 512  # tokens per dialogue; Baize's
DIALOGUES = 12
SCALE = 2  # alpha / rank, as in Baize: a higher rank must not also mean a larger step
COLUMNS = ("setting", "seed", "heldout_loss", "seconds", "recipe")


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


def tune(model, pad_id, train, heldout, setting, seed=0, limit=LIMIT):
    """(held-out loss, seconds of training) of fresh LoRA layers, which are taken off again. Built in notebook 04.

    train, heldout : rows of `encode`. The held-out loss is that of the assistant's tokens, whatever was trained on, in
    nats per token. seed : decides LoRA's first A, the order of the dialogues, and dropout.
    A loop without warm-up, accumulation or checkpoints; its layers and its loss are those of `train`.
    """
    profile = profiles.get("laptop")
    tuned = quicken(add_lora(model, replace(profile, rank=setting.rank, alpha=SCALE * setting.rank)))
    _draw_again(tuned, seed)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], profile.learning_rate)
    start = time.perf_counter()
    tuned.train()
    for batch in batches(train, pad_id, setting, seed, limit):
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        loss = summed_loss(tuned, batch) / learned(batch["labels"]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    loss = rows_loss(tuned, heldout, pad_id)
    tuned.unload()
    return loss, seconds


def _draw_again(tuned, seed):
    """LoRA's A drawn by this seed (add_lora always draws the same), and dropout after it."""
    torch.manual_seed(seed)
    for module in tuned.modules():
        if hasattr(module, "reset_lora_parameters"):
            module.reset_lora_parameters("default", init_lora_weights=True)


def batches(rows, pad_id, setting, seed=0, limit=LIMIT):
    """Batches of tensors, for all epochs of a setting: like lengths together, or each filled up to `limit` tokens."""
    dice = random.Random(seed)
    if setting.everything:
        rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in rows]
    for _ in range(setting.epochs):
        order = dice.sample(rows, len(rows))
        if not setting.padded:
            order.sort(key=lambda row: len(row["input_ids"]))
        groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        for group in dice.sample(groups, len(groups)):
            batch = collate(group, pad_id)
            yield _filled(batch, pad_id, limit) if setting.padded else batch


def _filled(batch, pad_id, limit):
    """The batch with padding up to `limit` tokens."""
    fill = {"input_ids": pad_id, "attention_mask": 0, "labels": IGNORE}
    return {name: pad(tensor, (0, limit - tensor.shape[1]), value=fill[name]) for name, tensor in batch.items()}


def read(path):
    """Rows of a table: [{"setting", "seed", "heldout_loss", "seconds", "recipe"}], none where there is no file."""
    if not Path(path).is_file():
        return []
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {"seed": int, "heldout_loss": float, "seconds": float}
    try:
        return [{name: numbers.get(name, str)(row[name]) for name in COLUMNS} for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise CourseError(
            f"{common.show(path)} is no table of ablations ({error}). Name another file, or delete it."
        ) from error


def summary(rows):
    """One dict per setting, in the order of the rows, over its seeds.

    Keys: setting, seeds (how many), loss (mean), lowest, highest, seconds (the least: other programs slow a run down
    at times), change (of the mean loss against the baseline), clear (True where its range of losses does not touch the
    baseline's).
    """
    losses, seconds = {}, {}
    for row in rows:
        losses.setdefault(row["setting"], []).append(row["heldout_loss"])
        seconds.setdefault(row["setting"], []).append(row["seconds"])
    base = losses["baseline"]
    return [
        {
            "setting": name,
            "seeds": len(found),
            "loss": _mean(found),
            "lowest": min(found),
            "highest": max(found),
            "seconds": min(seconds[name]),
            "change": _mean(found) - _mean(base),
            "clear": min(found) > max(base) or max(found) < min(base),
        }
        for name, found in losses.items()
    ]


def _mean(values):
    return sum(values) / len(values)


def make(path, seeds=(0, 1, 2), dialogues=DIALOGUES, settings=SETTINGS, limit=LIMIT, folder=None, minutes=math.inf):
    """Fill a table with every setting and seed that it does not have yet; return its rows.

    The file is written whole after each result: an interrupted table goes on. folder : of train.jsonl and
    heldout.jsonl; default: the shipped corpus. minutes : no run is begun after that time.
    Raises CourseError where the file came from other data or settings.
    """
    rows, sources = read(path), _sources(folder)
    model, tokenizer = models.load()
    train, heldout = chosen_rows(tokenizer, dialogues, limit, folder)
    recipes = {s.name: _recipe(train, heldout, limit, s) for s in settings}
    if any(row["recipe"] != recipes.get(row["setting"]) for row in rows):
        raise CourseError(f"{common.show(path)} came from other data or settings. Name another file, or delete it.")
    done = {(row["setting"], row["seed"]) for row in rows}
    end = time.monotonic() + 60 * minutes
    for seed, setting in itertools.product(seeds, settings):
        if (setting.name, seed) not in done and time.monotonic() < end:
            loss, seconds = tune(model, tokenizer.eos_token_id, train, heldout, setting, seed, limit)
            values = (setting.name, seed, round(loss, 4), round(seconds, 1), recipes[setting.name])
            rows.append(dict(zip(COLUMNS, values, strict=True)))
            _save(path, rows)
            print(f"seed {seed} · {setting.name:20} held-out loss {loss:.4f} · {seconds:.0f} s", flush=True)
    facts = {"settings": [asdict(s) for s in settings], "batch": BATCH, "limit": limit, "dialogues": dialogues}
    command = f"python -m baize_nb.finetune.ablations --out {common.show(path)}"
    common.write_manifest(path, command, sources, base=models.NAME, machine=_machine(), **facts)
    return rows


def chosen_rows(tokenizer, dialogues=DIALOGUES, limit=LIMIT, folder=None):
    """(rows to train on, held-out rows): the same dialogues of train.jsonl each time, and all of heldout.jsonl."""
    train, heldout = (corpus.read(path) for path in _sources(folder))
    chosen = random.Random(0).sample(train, dialogues)
    return [encode_all(found, tokenizer, limit).rows for found in (chosen, heldout)]


def _sources(folder):
    """Paths of train.jsonl and heldout.jsonl in a folder, or of the shipped ones."""
    folder = Path(folder or common.DATA / "corpus")
    return [folder / "train.jsonl", folder / "heldout.jsonl"]


def _recipe(train, heldout, limit, setting):
    """Eight hex digits that stand for all that decides a result: data, model, settings."""
    rate = profiles.get("laptop").learning_rate
    text = json.dumps([train, heldout, limit, asdict(setting), BATCH, SCALE, rate, models.GGUF_SHA256])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _save(path, rows):
    """Write the table whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    common.write_text(path, text.getvalue())


def _machine():
    """What the seconds were taken on."""
    threads, sort = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    return f"{threads} of {os.cpu_count()} cores, {platform.machine()}, {sort}, float32"


def main(arguments):
    """Make or go on with a table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m baize_nb.finetune.ablations", description="Make the table.")
    parser.add_argument("--out", required=True, help="the table: a .csv file, which is gone on with where it exists")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after that time; go on later")
    chosen = parser.parse_args(arguments)
    try:
        make(chosen.out, chosen.seeds, minutes=chosen.minutes)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
