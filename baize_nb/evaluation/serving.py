"""A model of this course behind llama.cpp: its GGUF file is made once, and its name tells its weights.

Knows: adapters, GGUF files, the engine. Does not know: prompts or replies. Built in notebook 06.
"""

import hashlib
import json
from pathlib import Path

from .. import common, models, teacher
from ..teacher import Engine


def serve(name, adapter=None, base="embedded", slots=16):
    """A `teacher.Teacher` that serves base model + adapter; use it as a context manager.

    name    : what the model is called, "tuned" say. The endpoint's model name has eight digits of the weights behind
              it, so that replies of other weights under the same name are told apart.
    adapter : folder of a LoRA adapter; None: the base model alone.
    base    : "embedded", a folder or a hub id.
    The file is `evaluation/<name>.gguf` of this run (none is needed for the embedded model alone), made by
    finetune.export_gguf and made again when the weights have changed. Raises what export_gguf raises.
    """
    weights = _weights(adapter, base)
    model = f"{name}-{hashlib.sha256(weights.encode()).hexdigest()[:8]}"
    engine = Engine(_file(name, adapter, base, weights), model, slots=slots)
    return teacher.Teacher(engine.url, model, engine=engine)


def _file(name, adapter, base, weights):
    """Path of the GGUF file with these weights."""
    if adapter is None and base == "embedded":
        return models.gguf()
    from .. import finetune

    path = common.runs() / "evaluation" / f"{name}.gguf"
    mark = path.with_name(path.name + ".weights.json")
    if not (path.is_file() and mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == weights):
        mark.unlink(missing_ok=True)
        finetune.export_gguf(adapter, base=base, out=path)
        common.write_text(mark, json.dumps(weights))
    return path


def _weights(adapter, base):
    """A text that differs where the weights differ."""
    if base == "embedded":
        told = models.GGUF_SHA256
    else:
        files = sorted(Path(base).glob("*.safetensors")) if Path(base).is_dir() else []
        told = " ".join(common.sha256(file) for file in files) or base
    return f"{told} {common.sha256(Path(adapter) / 'adapter_model.safetensors')}" if adapter else told
