"""Try what a GPU adds, on the model and the data that are here: `make gpu-check`. Under five minutes, no network.

For each number format of the base model: a short training (its held-out loss beside float32's), the same training
interrupted and resumed, a chat, and the adapter merged into the base and served as a GGUF file.
Without a GPU only int8 is tried beside float32, by bitsandbytes' code for processors. Exit code 1 where one failed.
"""

import contextlib
import importlib.util
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from baize_nb import common, corpus, finetune, models, profiles, teacher
from baize_nb.chat import ChatSession, EndpointSession
from baize_nb.common import CourseError

GREEDY = {"max_new_tokens": 24, "temperature": 0}
QUESTION = "What is a fever?"
# How far the held-out loss may lie from float32's after the same steps, in nats per token.
BOUNDS = {"float32": 0.0, "float16": 0.05, "bfloat16": 0.05, "int8": 0.1, "int4": 0.3}
# Three optimizer steps.
PROFILE = replace(profiles.get("ci"), max_length=96, batch_size=4, eval_steps=3, warmup_steps=0, dropout=0.0)


def dtypes(gpu: bool, bitsandbytes: bool) -> list[str]:
    """Return the number formats to try, float32 first: all of them on a GPU; int4 needs one."""
    plain = ["float32", "float16", "bfloat16"] if gpu else ["float32"]
    packed = ["int8", "int4"] if gpu else ["int8"]
    return plain + (packed if bitsandbytes else [])


def train(dtype: str, out: Path, on_step=lambda run: None) -> finetune.Run:
    """Train on twelve shipped dialogues, with four held out."""
    dialogues = corpus.read(common.DATA / "corpus" / "train.jsonl")
    profile = replace(PROFILE, dtype=dtype)
    with contextlib.redirect_stdout(io.StringIO()):
        return finetune.train(dialogues[:12], dialogues[12:16], out=out, profile=profile, on_step=on_step)


def interrupt(run) -> None:
    """Break a training off after its first step."""
    if run.step == 1:
        raise KeyboardInterrupt


def attempts(dtype: str, folder: Path, losses: dict[str, float]) -> Iterator[str]:
    """Try one number format; yield what came of each attempt. losses : held-out losses, {number format: loss}."""
    run = train(dtype, folder / dtype)
    losses[dtype] = run.loss_after
    apart = abs(run.loss_after - losses["float32"])
    assert run.loss_after < run.loss_before, f"the held-out loss rose from {run.loss_before} to {run.loss_after}"
    assert apart <= BOUNDS[dtype], f"the held-out loss is {apart:.3f} from float32's"
    yield f"training: held-out loss {run.loss_before:.3f} → {run.loss_after:.3f}, {apart:.3f} from float32's"

    with contextlib.suppress(CourseError):
        train(dtype, folder / f"{dtype}-resumed", on_step=interrupt)
    again = train(dtype, folder / f"{dtype}-resumed")
    apart = abs(again.loss_after - run.loss_after)
    assert apart < 0.01, f"a resumed training ends {apart:.3f} from an unbroken one"
    yield f"resumed: {apart:.6f} from the unbroken training"

    model, tokenizer = models.load(dtype=dtype, adapter=run.adapter)
    reply = ChatSession(model, tokenizer, **GREEDY).answer(QUESTION)
    assert reply
    yield f"chat: {reply}"

    path = finetune.export_gguf(run.adapter, out=folder / f"{dtype}.gguf")
    engine = teacher.Engine(path, "baize", slots=1)
    with teacher.Teacher(engine.url, "baize", engine=engine) as tuned:
        reply = EndpointSession(tuned, tokenizer, **GREEDY).answer(QUESTION)
    assert reply
    yield f"merged, as GGUF: {reply}"


def check(folder: Path) -> bool:
    """Print one line for each thing tried; return whether all of them worked."""
    gpu, fine, losses = torch.cuda.is_available(), True, {}
    print(f"{torch.cuda.get_device_name(0) if gpu else 'no GPU: what a processor can do'} · torch {torch.__version__}")
    for dtype in dtypes(gpu, importlib.util.find_spec("bitsandbytes") is not None):
        begin = time.monotonic()
        try:
            for words in attempts(dtype, folder, losses):
                print(f"✓ {dtype:8} {time.monotonic() - begin:4.0f} s  {' '.join(words.split())}", flush=True)
        except Exception as error:  # the other number formats are tried all the same
            fine = False
            print(f"! {dtype:8} {time.monotonic() - begin:4.0f} s  {type(error).__name__}: {error}", flush=True)
    return fine


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not check(Path(folder)))
