"""What training takes and what this machine has: memory, minutes, disk, processor cores; without loading torch.

GB are 10⁹ bytes, GiB 2³⁰. Held against real runs on processors, and against the paper's figures.
"""

import json
import math
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .. import profiles
from ..common import CourseError

GB, GIB = 1e9, 2**30
CGROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may use


def free_cores(most: int) -> int:
    """Count the cores that this process may use and that nobody else keeps busy, 1 to `most`; takes 0.3 s.

    PyTorch's threads wait for each other: one too many, on a core that another program holds, makes all of them slow.
    """
    import psutil  # here: the doctor has to run where packages are missing

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(OSError, ValueError):  # not Linux, no container, or "max"
        quota, period = (CGROUP / "cpu.max").read_text().split()
        allowed = min(allowed, int(quota) / int(period))
    share = min(most, int(allowed)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if share <= 1:
        return 1
    idle = psutil.cpu_count() * (1 - psutil.cpu_percent(0.3) / 100)
    return max(1, round(min(share, idle)))


def memory_gib() -> tuple[float, float]:
    """Return the memory in GiB, (all, free): of the machine, or of the container where it has less."""
    import psutil

    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    with suppress(OSError, ValueError):
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = (CGROUP / "memory.stat").read_text()
        used -= int(re.search(r"^inactive_file (\d+)", stat, re.M)[1])  # files that were read are given back
        total, free = min(total, limit), min(free, limit - used)
    return total / GIB, free / GIB


BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int4": 0.5}  # of a weight in a linear layer
PROGRAM = 0.65 * GB  # Python with torch, transformers and peft
LEARNED = 0.6  # share of the tokens that are the assistant's, as in the shipped corpus
CHARACTERS = 4.7  # of English text per token of the embedded model; other languages have fewer
PREAMBLE, MARKER = 30, 6  # tokens before a dialogue, and around each message
EFFICIENCY = 0.6  # of the speed of bare matrix products, measured over whole runs of `train`


class Shapes(NamedTuple):
    """A model of LLaMA's architecture: widths, and how many layers."""

    hidden: int
    feed_forward: int
    layers: int
    vocabulary: int
    key_value: int  # width of keys and of values
    tied: bool = False  # embedding and projection are one matrix

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Return {name: (outputs, inputs)} of the linear layers of one block."""
        h, f, kv = self.hidden, self.feed_forward, self.key_value
        attention = {"q_proj": (h, h), "k_proj": (kv, h), "v_proj": (kv, h), "o_proj": (h, h)}
        return {**attention, "gate_proj": (f, h), "up_proj": (f, h), "down_proj": (h, f)}


SHAPES = {
    "embedded": Shapes(576, 1536, 30, 49_152, 192, tied=True),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Shapes(2048, 8192, 24, 49_152, 2048, tied=True),
    "huggyllama/llama-7b": Shapes(4096, 11_008, 32, 32_000, 4096),
    "huggyllama/llama-13b": Shapes(5120, 13_824, 40, 32_000, 5120),
    "huggyllama/llama-30b": Shapes(6656, 17_920, 60, 32_000, 6656),
}
SIZES = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers", "vocab_size")


def shapes(base: str) -> Shapes:
    """Return the `Shapes` of a base model: one of the profiles', or a folder with a config.json; else CourseError."""
    if base in SHAPES:
        return SHAPES[base]
    try:
        config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
        hidden, heads, *sizes = (config[name] for name in SIZES)
        key_value = hidden // heads * config.get("num_key_value_heads", heads)
        return Shapes(hidden, *sizes, key_value, bool(config.get("tie_word_embeddings")))
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(f"The sizes of {base!r} are not known ({error}). Give a folder that holds it.") from None


class Needs(NamedTuple):
    """What `train` will take with a profile, without a GPU."""

    parts: dict[str, float]  # bytes, at the peak
    minutes: float

    @property
    def memory(self) -> float:
        return sum(self.parts.values())

    def __str__(self):
        return f"{self.memory / GB:.1f} GB of memory; about {math.ceil(self.minutes)} min without a GPU"


def needs(profile: profiles.Profile, dialogues: Sequence = (), speed: float | None = None) -> Needs:
    """Predict what training with a profile takes, before anything is loaded.

    dialogues : those to be trained on; default: as many as the profile makes, each half as long as it may be.
    speed     : multiplications and additions a second of this machine; default: measured, in half a second.
    """
    lengths = []  # estimated tokens of each dialogue
    for d in dialogues:
        said = sum(MARKER + len(m["content"]) / CHARACTERS for m in d.messages)
        lengths.append(min(profile.max_length, PREAMBLE + said))
    longest = max(lengths, default=profile.max_length)
    lengths = lengths or [profile.max_length / 2] * (profile.seeds - profile.heldout)
    learned = 1 if profile.loss_on == "all" else LEARNED

    shape, tokens = shapes(profile.base), profile.micro_batch_size * longest  # of a forward pass
    matrices = shape.matrices()
    linear = shape.layers * sum(outputs * inputs for outputs, inputs in matrices.values())
    embedding = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    adapted = [matrices[name] for name in profile.targets if name in matrices]
    lora = shape.layers * profile.rank * sum(outputs + inputs for outputs, inputs in adapted)
    size, packed = BYTES.get(profile.dtype, 4), profile.dtype in profiles.QUANTIZED  # "auto": 4 at most
    # What is kept for the backward pass. Each block: its residual stream twice, queries, keys, values, the attention's
    # result, three widths of the feed-forward. LoRA: in float32 (fast_lora.py) what the matrices share, and the places
    # that dropout left out; otherwise (peft) an input for each matrix, and dropout's mask, in float32.
    widths = 5 * shape.hidden + 2 * shape.key_value + 3 * shape.feed_forward
    inputs = sum(inputs for _, inputs in adapted)
    if size == 4:
        block = 4 * (widths + shape.hidden + shape.feed_forward) + 8 * profile.dropout * inputs
    else:
        block = 2 * widths + 4 * inputs * (2 if profile.dropout else 1)
    kept = shape.layers * block
    if packed:  # it checkpoints: the input of each block, and the rest for one block at a time
        kept = block + 2 * shape.layers * shape.hidden
    parts = {
        "program": PROGRAM,
        # bitsandbytes leaves the embedding alone, and peft then makes it float32.
        "base model": linear * size + embedding * (4 if packed else size),
        "LoRA, its gradient and optimizer": 16 * lora,  # four numbers of four bytes each
        "kept for the gradient": tokens * kept,
        # Scores over the vocabulary, their logarithms and both gradients, for the learned tokens.
        "scores": tokens * learned * shape.vocabulary * (16 if size == 4 else 18),
    }
    # A token costs two multiplications and additions for each weight on the way forth and, since frozen weights need no
    # gradient, two on the way back.
    looks = 2 + profile.epochs * len(lengths) / profile.batch_size // profile.eval_steps  # at the held-out loss
    trained, heldout = 2 * profile.epochs * sum(lengths), profile.heldout * sum(lengths) / len(lengths)
    work = 2 * (linear + learned * shape.vocabulary * shape.hidden) * (trained + looks * heldout)
    return Needs(parts, work / (speed or matmul_speed()) / EFFICIENCY / 60)


def matmul_speed() -> float:
    """Measure the multiplications and additions a second of this machine, in float32, at matrices like a model's."""
    import numpy

    left, right = numpy.ones((512, 576), numpy.float32), numpy.ones((576, 1536), numpy.float32)
    left @ right  # the first one wakes the threads
    start = time.perf_counter()
    for _ in range(50):
        left @ right
    return 50 * 2 * 512 * right.size / (time.perf_counter() - start)


def check_memory(profile: profiles.Profile, dialogues: Sequence = ()) -> None:
    """Raise CourseError where training without a GPU would not fit into the memory that is free now."""
    try:
        wanted = needs(profile, dialogues, speed=1).memory - PROGRAM  # the program runs already
    except CourseError:  # a base model of unknown size
        return
    free = GIB * memory_gib()[1] / int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if wanted > free:
        raise CourseError(
            f"Training needs about {wanted / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB are free: close other "
            "programs and kernels; or halve micro_batch_size (the result stays the same) or max_length in the profile."
        )
