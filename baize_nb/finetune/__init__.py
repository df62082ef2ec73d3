"""LoRA fine-tuning: dialogues → tokens with a loss mask → an adapter on disk → a merged folder or a GGUF file."""

import importlib

from .memory import Needs, needs
from .tokens import IGNORE, collate, encode, encode_all, encode_prompt

_LATER = dict.fromkeys(("Run", "add_lora", "heldout_loss", "train"), ".training")
_LATER |= {"export_gguf": ".export", "merge": ".export"}
__all__ = ["IGNORE", "Needs", "collate", "encode", "encode_all", "encode_prompt", "needs", *_LATER]


def __getattr__(name):
    """Import torch, transformers and peft (some seconds) only when something that needs them is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name], __name__), name)
