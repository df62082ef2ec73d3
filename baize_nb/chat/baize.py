"""The released Baize models: where they are, and the prompt that belongs to them.

Knows: names on the model hub, and the released format. Does not know: how weights are loaded or read.
Never run with the real weights here, which take 14 GB and more: tests run it on small local folders of the same shape.
Source: Baize (arXiv 2304.01196) and its released models; LLaMA's licence and theirs allow research only.
"""

from pathlib import Path
from typing import NamedTuple

from .. import models
from ..common import CourseError
from .local import ChatSession

# What the released chat tells its model, in our words. It differs from the preamble of its training text.
GUARD = (
    "What follows is a conversation between a human and Baize, an open-source AI assistant. The two take turns: "
    "[|Human|] begins what the human says and [|AI|] what the assistant says. The assistant answers in as much detail "
    "as it can and writes Markdown. It declines to talk about anything unethical, controversial or sensitive."
)


class Released(NamedTuple):
    """base: hub id of a whole model; adapter: hub id of the LoRA weights on it, None where they are merged in."""

    base: str
    adapter: str | None = None


RELEASED = {
    "7b": Released("huggyllama/llama-7b", "project-baize/baize-lora-7B"),
    "13b": Released("huggyllama/llama-13b", "project-baize/baize-lora-13B"),
    "30b": Released("huggyllama/llama-30b", "project-baize/baize-lora-30B"),
    "healthcare": Released("huggyllama/llama-7b", "project-baize/baize-healthcare-lora-7B"),
    "v2-7b": Released("project-baize/baize-v2-7b"),
    "v2-13b": Released("project-baize/baize-v2-13b"),
}


def load_baize(name, folder=None, dtype="float16", **settings):
    """`ChatSession` with a released Baize model, ready for the widget.

    name     : one of RELEASED: "7b", "13b", "30b", "healthcare", "v2-7b", "v2-13b".
    folder   : None fetches from the model hub. A folder holds the same under the last parts of the hub's names, such
               as `llama-7b/` and `baize-lora-7B/`.
    dtype    : as in models.load; "int8" halves the memory again (GPU).
    settings : of the ChatSession.
    Raises CourseError for an unknown name, or where weights can't be read.
    """
    if name not in RELEASED:
        raise CourseError(f"There is no released Baize model {name!r}. Choose one of: {', '.join(RELEASED)}.")
    base, adapter = RELEASED[name]
    if folder is None:
        adapter = adapter and f"hub:{adapter}"
    else:
        base, adapter = (part and str(Path(folder) / part.split("/")[-1]) for part in (base, adapter))
    model, tokenizer = models.load(base, dtype, adapter)
    # Its training text closes no turn with the stop token: the markers end a reply.
    return ChatSession(model, tokenizer, **{"guard": GUARD, "closes": False} | settings)
