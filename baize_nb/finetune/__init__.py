"""LoRA fine-tuning: dialogues → tokens with a loss mask → an adapter on disk → a merged folder or a GGUF file.

tokens.py     what is read and what of it is learned; the chat prompt; batches; the format as a chat template
training.py   the loss, the loop, `train`
fast_lora.py  LoRA's layer, quicker on a processor than peft's; float32 or bfloat16, by trying
saving.py     `Run`, checkpoints, the adapter and its manifest
memory.py     what a run will take and what the machine has
ablations.py  what each choice of the recipe, and each direction of an update, is worth
export.py     base model and adapter as one: a transformers folder, or a GGUF file
__main__.py   training from a terminal, in one process or several
"""

import importlib

from .memory import Needs, needs
from .tokens import IGNORE, collate, encode, encode_all, encode_prompt, padding_share

_LATER = {
    "Run": "saving",
    "add_lora": "training",
    "export_gguf": "export",
    "heldout_loss": "training",
    "merge": "export",
    "train": "training",
}
__all__ = ["IGNORE", "Needs", "collate", "encode", "encode_all", "encode_prompt", "needs", "padding_share", *_LATER]


def __getattr__(name):
    """Import torch, transformers and peft (some seconds) only when something that needs them is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
