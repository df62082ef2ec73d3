"""LoRA fine-tuning: dialogues → tokens with a loss mask → an adapter on disk. Built in notebook 04.

tokens.py   what is read and what of it is learned; batches
loss.py     the loss, over learned positions only
trainer.py  transformers' Trainer with that loss
training.py `train`: the settings of a profile, given to Trainer and peft; resumable
saving.py   `Run`, the adapter, its manifest, and what was left by an interrupted run
fastlora.py LoRA's layer, quicker on a processor than peft's
precision.py float32 or bfloat16, by trying
preflight.py what would spoil a run, found before its first step
hardware.py processes, threads and free memory
watching.py what is seen of a run while it goes on
__main__.py training from a terminal, in one process or several
forecast.py memory, minutes and disk that a run will take, before anything is loaded
ablations.py what each choice of the recipe is worth: a table that notebook 04 reads
ranks.py    how much of LoRA's rank an update uses

Out the door, built in notebook 05:

export.py       base model and adapter as one: a transformers folder, or a GGUF file
gguf_file.py    the GGUF file
chattemplate.py the Baize format as other programs read it
modelcard.py    the page that travels with the model
"""

import importlib

from .forecast import Needs, needs
from .saving import Run
from .tokens import IGNORE, collate, encode, encode_all, encode_prompt, padding_share

__all__ = [
    "IGNORE",
    "Needs",
    "Run",
    "add_lora",
    "collate",
    "encode",
    "encode_all",
    "encode_prompt",
    "export_gguf",
    "heldout_loss",
    "merge",
    "needs",
    "padding_share",
    "train",
    "write_model_card",
]

_LATER = {
    "add_lora": "training",
    "export_gguf": "export",
    "heldout_loss": "loss",
    "merge": "export",
    "train": "training",
    "write_model_card": "modelcard",
}


def __getattr__(name):
    """Import torch, transformers and peft (some seconds) only when something that needs them is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
