"""What would spoil a training run, found before its first step and said in one sentence.

Knows: memory, context, disk and the first loss. Does not know: how to train, or how much memory a run takes (see
forecast.py). An empty corpus, a dialogue without an answer and a tokenizer without a stop token are found by tokens.py.
"""

import math
import shutil
from dataclasses import replace

from .. import common
from ..common import CourseError
from . import forecast, hardware
from .loss import rows_loss

GIB = hardware.GIB


def memory(profile, base, dialogues):
    """Raise CourseError where training on a processor would not fit into what is free now. Before a model is loaded.

    Lets a base model pass whose sizes are not known, and a system that does not say what is free (macOS, Windows).
    """
    free = hardware.free_memory()
    profile = replace(profile, base=base)
    try:
        needs = forecast.needs(profile, dialogues, speed=1)
    except CourseError:
        return
    wanted = (needs.memory - needs.parts["program"]) / GIB  # this program runs already
    if needs.place == "GPU" or free is None or wanted <= free:
        return
    changed = forecast.change(profile, free * GIB + needs.parts["program"], dialogues)
    settings = " and ".join(f"{name} to {value}" for name, value in (changed or {}).items())
    remedy = f", or set {settings} in the profile" if settings else ""
    raise CourseError(
        f"Training needs about {wanted:.1f} GiB of memory and {free:.1f} GiB are free: close other programs and "
        f"kernels{remedy}."
    )


def check(model, rows, pad_id, micro, out):
    """Raise CourseError where this run could not come to its end. After the model is loaded.

    model : with its LoRA layers. rows : of `encode`, those to train on. micro : dialogues per forward pass.
    out   : the folder that the adapter goes to.
    """
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))[-micro:]
    _context(model.config, len(rows[-1]["input_ids"]))
    _disk(model, out)
    _first_loss(model, rows, pad_id)


def _context(config, longest):
    """A model reads positions beyond its context without a murmur, and answers nonsense."""
    context = getattr(config, "max_position_embeddings", None)
    if context and longest > context:
        raise CourseError(
            f"The longest dialogue has {longest:,} tokens, and the base model reads {context:,} at most: "
            f"set max_length in the profile to {context} or less."
        )


def trained_bytes(model):
    """Bytes of the trained parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def _disk(model, out):
    """What is written while training must fit beside what is there."""
    wanted = forecast.written(trained_bytes(model)) / GIB
    folder = next(parent for parent in out.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free / GIB
    if free < wanted:
        raise CourseError(
            f"Checkpoints and adapter need {wanted:.2f} GiB, and {common.show(folder)} has {free:.2f} GiB free: "
            "free some space or set BAIZE_RUNS to a folder on another disk."
        )


def _first_loss(model, rows, pad_id):
    """Of the longest dialogues; weights that are damaged, or too large for their dtype, show here."""
    loss = rows_loss(model, rows, pad_id, batch_size=1)
    if not math.isfinite(loss):
        raise CourseError(
            f"The loss before the first step is {loss}: the base model's weights are damaged, or its numbers are too "
            "large for this dtype. Load another base model, or use dtype float32 in the profile."
        )
