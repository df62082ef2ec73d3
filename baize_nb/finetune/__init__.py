"""LoRA fine-tuning: dialogues → tokens with a loss mask → an adapter on disk. Built in notebook 04.

tokens.py   what is read and what of it is learned; batches
loss.py     the loss, over learned positions only
trainer.py  transformers' Trainer with that loss
training.py `train`: the settings of a profile, given to Trainer and peft; resumable
saving.py   `Run`, the adapter, its manifest, and what was left by an interrupted run
"""

import importlib

from .saving import Run
from .tokens import IGNORE, collate, encode, encode_all, encode_prompt, padding_share

__all__ = [
    "IGNORE",
    "Run",
    "add_lora",
    "collate",
    "encode",
    "encode_all",
    "encode_prompt",
    "heldout_loss",
    "padding_share",
    "train",
]

_LATER = {"train": "training", "add_lora": "training", "heldout_loss": "loss"}


def __getattr__(name):
    """Import torch, transformers and peft (some seconds) only when something that needs them is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
