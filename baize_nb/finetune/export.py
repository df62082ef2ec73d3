"""Out the door: base model and adapter become one model, as a transformers folder or as a GGUF file.

Knows: merging, and writing whole or not at all. Does not know: the GGUF format (gguf_file.py), the words of the model
card (modelcard.py). Built in notebook 05.

Merging adds (alpha / r) · B A to each matrix once and for all: the model computes what base and adapter computed
together, a little faster, and every program that reads a LLaMA can run it.
"""

from pathlib import Path

from .. import common, models
from . import gguf_file, saving
from .chattemplate import chat_template


def merge(adapter, base="embedded", out=None, dtype="float32"):
    """Write base model + adapter as a plain transformers folder; return its Path.

    adapter : folder of a LoRA adapter, or "hub:<id>".
    base    : "embedded", a folder or a hub id: the one that the adapter was trained on.
    out     : the folder; default: this run's `merged`. One that is there is replaced when the new one stands whole.
    dtype   : "float32", "bfloat16" or "float16"; a model in 8 bits can't be merged without loss.

    The folder has weights (safetensors), tokenizer, settings for generation and a chat template that writes the Baize
    format. `models.load(str(folder))` reads it. Raises CourseError: no adapter, one of another base, a full disk.
    """
    out = Path(out) if out is not None else common.runs() / "merged"
    model, tokenizer = _merged(adapter, base, dtype)
    tokenizer.chat_template = chat_template(tokenizer)
    then = "Free some space or set BAIZE_RUNS to another disk, and try again."
    with common.atomic_folder(out, "the model", then) as temporary, models.quiet():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    _manifest(out, "merge", adapter, base, dtype=dtype)
    return out


def export_gguf(adapter, base="embedded", out=None, kind="Q8_0"):
    """Write base model + adapter as one GGUF file; return its Path. `engine.Engine(path, name)` serves it.

    base : as in `merge`, a LLaMA with the embedded model's tokenizer. kind : see gguf_file.write.
    adapter : as in `merge`; None writes the base model as it is, to compare with.
    out  : the file; default: `baize.<kind>.gguf` of this run.

    The file has a chat template in it: llama.cpp's /v1/chat/completions writes exactly transcript.prompt, with a
    system message, if there is one, in the preamble's place. How to run it elsewhere stands in the model card.
    Raises CourseError: another tokenizer, another kind, no adapter, a full disk.
    """
    gguf_file.known(kind)
    source = gguf_file.check(models.load_tokenizer(base))
    out = Path(out) if out is not None else common.runs() / f"baize.{kind}.gguf"
    model, tokenizer = _merged(adapter, base, "float32")
    gguf_file.write(model, tokenizer, source, out, kind)
    _manifest(out, "export_gguf", adapter, base, kind=kind)
    return out


def _merged(adapter, base, dtype):
    """(model, tokenizer): the adapter worked into the base model's own matrices."""
    model, tokenizer = models.load(base, dtype, adapter=adapter)
    return (model if adapter is None else model.merge_and_unload()), tokenizer


def _manifest(out, command, adapter, base, **facts):
    weights = Path(adapter or "") / saving.WEIGHTS
    sources = [weights] if weights.is_file() else []  # one from a hub is named below
    facts |= {"base": saving.base_name(base), "adapter": adapter and Path(adapter).name}
    common.write_manifest(out, f"baize_nb.finetune.{command} (notebook 05)", sources=sources, **facts)
