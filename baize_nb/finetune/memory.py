"""What training takes and what this machine has: memory, minutes, disk, processor cores. Loads neither model nor torch.

GB are 10⁹ bytes, GiB 2³⁰. Processors were held against real runs, GPUs against the paper's figures only.
"""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from .. import profiles
from ..common import CourseError

GB, GIB = 1e9, 2**30
CGROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may use


def free_cores(most: int) -> int:
    """Count the cores that this process may use and that nobody else keeps busy, 1 to `most`; takes 0.3 s.

    PyTorch's threads wait for each other: one too many, on a core that another program holds, makes all of them slow.
    """
    import psutil

    allowed = min(most, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        allowed = min(allowed, int(quota) / int(period))
    except (OSError, ValueError):  # not Linux, no container, or "max"
        pass
    share = int(allowed) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if share <= 1:
        return 1
    idle = psutil.cpu_count() * (1 - psutil.cpu_percent(0.3) / 100)
    return max(1, round(min(share, idle)))


def total_gib() -> float:
    """Return the memory of the machine in GiB, or of the container where that is less."""
    import psutil  # here: the doctor has to run where packages are missing

    total, limit = psutil.virtual_memory().total, CGROUP / "memory.max"
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text) if text.isdigit() else total) / GIB


def free_gib() -> float:
    """Return the memory that programs can still take, in GiB: of the machine, or of the container if it has less."""
    import psutil

    free = psutil.virtual_memory().available
    try:
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        used = int((CGROUP / "memory.current").read_text()) - int(stat["inactive_file"])  # files read: given back
        free = min(free, int((CGROUP / "memory.max").read_text()) - used)
    except (OSError, ValueError, KeyError):  # no such files outside Linux; "max" where there is no limit
        pass
    return free / GIB


@cache
def gpu_bytes() -> int:
    """Return the memory of the first NVIDIA GPU in bytes, as its driver says it; 0 where none is seen."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return 0
    try:
        command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        return int(said.splitlines()[0]) * 2**20
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return 0


# Bytes of a weight in a linear layer; "auto" at its most.
BYTES = {"auto": 4, "float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int4": 0.5}
GPU_ONLY = ("float16", *profiles.QUANTIZED)
CHECKPOINTS = 2  # one is kept, and another is there while it is written
PROGRAM = {"processor": 0.65 * GB, "GPU": 1.0 * GB}  # Python with torch, transformers and peft; CUDA's own
LEARNED = 0.6  # share of the tokens that are the assistant's; 0.60 in the shipped corpus
CHARACTERS = 4.7  # of English text per token of the embedded model; other languages have fewer
PREAMBLE, MARKER = 30, 6  # tokens before a dialogue, and around each message
EFFICIENCY = 0.6  # of the speed of bare matrix products, measured over whole runs of `train`


@dataclass(frozen=True)
class Shapes:
    """A model of LLaMA's architecture: widths, and how many layers. tied: embedding and projection are one matrix."""

    hidden: int
    feed_forward: int
    layers: int
    key_value: int  # width of keys and of values
    vocabulary: int
    tied: bool = False

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Return {name: (outputs, inputs)} of the linear layers of one block."""
        h, f, kv = self.hidden, self.feed_forward, self.key_value
        attention = {"q_proj": (h, h), "k_proj": (kv, h), "v_proj": (kv, h), "o_proj": (h, h)}
        return {**attention, "gate_proj": (f, h), "up_proj": (f, h), "down_proj": (h, f)}

    def sizes(self, targets: Sequence[str] = (), rank: int = 0) -> tuple[int, int, int]:
        """Count the numbers in all linear layers, in embedding and projection, and in LoRA on these matrices."""
        linear = self.layers * sum(outputs * inputs for outputs, inputs in self.matrices().values())
        embedding = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return linear, embedding, self.layers * rank * sum(sum(self.matrices()[name]) for name in targets)


SHAPES = {
    "embedded": Shapes(576, 1536, 30, 192, 49_152, tied=True),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Shapes(2048, 8192, 24, 2048, 49_152, tied=True),
    "huggyllama/llama-7b": Shapes(4096, 11_008, 32, 4096, 32_000),
    "huggyllama/llama-13b": Shapes(5120, 13_824, 40, 5120, 32_000),
    "huggyllama/llama-30b": Shapes(6656, 17_920, 60, 6656, 32_000),
}


def shapes(base: str) -> Shapes:
    """Return the `Shapes` of a base model: one of the profiles', or a folder with a config.json; else CourseError."""
    if base in SHAPES:
        return SHAPES[base]
    try:
        config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
        hidden, heads, tied = config["hidden_size"], config["num_attention_heads"], config.get("tie_word_embeddings")
        key_value = hidden // heads * config.get("num_key_value_heads", heads)
        layers, vocabulary = config["num_hidden_layers"], config["vocab_size"]
        return Shapes(hidden, config["intermediate_size"], layers, key_value, vocabulary, bool(tied))
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(
            f"The sizes of the base model {base!r} are not known ({type(error).__name__}: {error}), so nothing can be "
            "predicted. Download it and give its folder as `base`."
        ) from None


@dataclass(frozen=True)
class Needs:
    """What `train` will take with a profile.

    parts  : {what: bytes} at the peak, on the `place` ("processor" or "GPU"); memory : their sum.
    disk   : bytes, the base model's files and the checkpoints included.
    minutes: of training; None for a GPU, on which nothing was ever measured here.
    """

    profile: str
    place: str
    parts: dict[str, float]
    disk: float
    minutes: float | None

    @property
    def memory(self) -> float:
        return sum(self.parts.values())

    def __str__(self):
        where, minutes = " of a GPU" if self.place == "GPU" else "", ""
        if self.minutes is not None:
            about = f"about {self.minutes:.0f} min" if self.minutes < 120 else f"{self.minutes / 60:.0f} hours"
            minutes = f", {'under a minute' if self.minutes < 1 else about}"
        memory, disk = (f"{n / GB:.{0 if n >= 10 * GB else 1}f} GB" for n in (self.memory, self.disk))
        return f"{memory} of memory{where}{minutes}, {disk} of disk"


def needs(
    profile: profiles.Profile | None = None, dialogues: Sequence | None = None, speed: float | None = None
) -> Needs:
    """Predict what training with a profile takes, before anything is loaded.

    dialogues : those to be trained on; default: as many as the profile makes, each half as long as it may be.
    speed     : multiplications and additions a second of this machine; default: measured, in half a second.
    """
    profile = profile or profiles.current()
    shape, place = shapes(profile.base), "GPU" if gpu_bytes() or profile.dtype in GPU_ONLY else "processor"
    lengths, learned = _lengths(profile, dialogues)
    tokens = profile.micro_batch_size * (max(lengths) if dialogues else profile.max_length)  # of a forward pass
    size, (linear, embedding, lora) = BYTES[profile.dtype], shape.sizes(profile.targets, profile.rank)
    parts = {
        "program": PROGRAM[place],
        # bitsandbytes leaves the embedding alone, and peft then makes it float32.
        "base model": linear * size + embedding * (4 if profile.dtype in profiles.QUANTIZED else size),
        "LoRA, its gradient and optimizer": 16 * lora,  # four numbers of four bytes each
        "kept for the gradient": _kept(shape, profile, tokens),
        # Scores over the vocabulary, their logarithms and both gradients, for the learned tokens.
        "scores": tokens * learned * shape.vocabulary * (16 if size == 4 else 18),
    }
    minutes = None
    if place == "processor":
        # A token costs two multiplications and additions for each weight on the way forth and, since frozen weights
        # need no gradient, two on the way back.
        looks = 2 + profile.epochs * len(lengths) / profile.batch_size // profile.eval_steps  # at the held-out loss
        trained, heldout = 2 * profile.epochs * sum(lengths), profile.heldout * sum(lengths) / len(lengths)
        work = 2 * (linear + learned * shape.vocabulary * shape.hidden) * (trained + looks * heldout)
        minutes = work / (speed or matmul_speed(shape)) / EFFICIENCY / 60
    files = 2 * (linear + embedding)  # as a hub has them
    if profile.base == "embedded":
        files = 0.1 * GB + 2 * files  # the GGUF file, and its converted form
    elif Path(profile.base).is_dir():
        files = 0
    return Needs(profile.name, place, parts, files + written(4 * lora), minutes)


def _lengths(profile, dialogues):
    """([tokens of each dialogue, as the limit leaves them], share of the tokens that is learned), estimated."""
    lengths, learned = [profile.max_length // 2] * max(1, profile.seeds - profile.heldout), LEARNED
    if dialogues:
        characters = [sum(len(m["content"]) for m in d.messages) for d in dialogues]
        answers = sum(len(m["content"]) for d in dialogues for m in d.messages if m["role"] == "assistant")
        messages = [MARKER * len(d.messages) for d in dialogues]
        lengths = [PREAMBLE + round(c / CHARACTERS) + m for c, m in zip(characters, messages, strict=True)]
        learned = answers / CHARACTERS / sum(lengths)
    return [min(length, profile.max_length) for length in lengths], 1.0 if profile.loss_on == "all" else learned


def _kept(shape, profile, tokens):
    """Bytes that a forward pass keeps for the backward pass.

    Each block: its residual stream twice, queries, keys, values, the attention's result, three widths of the
    feed-forward. LoRA: in float32 (fast_lora.py) what the matrices share, and the places that dropout left out;
    otherwise (peft) an input for each matrix, and dropout's mask, in float32.
    A quantized base checkpoints: it keeps the input of each block, and the rest for one block at a time.
    """
    inputs = sum(shape.matrices()[name][1] for name in profile.targets)
    if profile.dtype in ("auto", "float32"):
        block = 4 * (6 * shape.hidden + 2 * shape.key_value + 4 * shape.feed_forward) + 8 * profile.dropout * inputs
        return tokens * shape.layers * block
    block = 2 * (5 * shape.hidden + 2 * shape.key_value + 3 * shape.feed_forward)
    block += 4 * inputs * (2 if profile.dropout else 1)
    if profile.dtype in profiles.QUANTIZED:
        return tokens * (2 * shape.layers * shape.hidden + block)
    return tokens * shape.layers * block


def written(trained: float) -> float:
    """Return the bytes of checkpoints (the trained numbers and Adam's two means of each) and of the adapter."""
    return trained * (3 * CHECKPOINTS + 1)


def matmul_speed(shape: Shapes) -> float:
    """Measure the multiplications and additions a second of this machine, in float32, at matrices like a model's."""
    import numpy

    left = numpy.ones((512, min(shape.hidden, 2048)), numpy.float32)
    right = numpy.ones((left.shape[1], min(shape.feed_forward, 4096)), numpy.float32)
    left @ right  # the first one wakes the threads
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < 0.5:
        left @ right
        done += 1
    return done * 2 * 512 * right.size / passed


def smaller_settings(profile: profiles.Profile, memory: float, dialogues: Sequence | None = None) -> dict | None:
    """Return the first settings to change so that training fits into `memory` bytes, as {name: value}; {} if it fits.

    First the micro-batch, which leaves the result as it is; then the length of a dialogue; then, for a quantized base,
    4 bits. None where even that is not enough: it takes a smaller base model, or a larger machine.
    """
    changed = {}

    def fits():
        return needs(replace(profile, **changed), dialogues, speed=1).memory <= memory

    for name, least in (("micro_batch_size", 1), ("max_length", 128)):
        value = getattr(profile, name)
        while not fits() and value >= 2 * least:
            value //= 2
            changed[name] = value
    if not fits() and profile.dtype == "int8":
        changed["dtype"] = "int4"
    return changed if fits() else None


def check_memory(profile: profiles.Profile, dialogues: Sequence) -> None:
    """Raise CourseError where training would not fit into the GPU or, without one, into the memory that is free now.

    Before a model is loaded. Lets a base model pass whose sizes are not known.
    """
    try:
        wanted = needs(profile, dialogues, speed=1)
    except CourseError:
        return
    program = wanted.parts["program"]  # which runs already
    free = gpu_bytes() or GIB * free_gib() / int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # for each process
    if wanted.memory - program <= free:
        return
    changed = smaller_settings(profile, free + program, dialogues) or {}
    settings = " and ".join(f"{name} to {value}" for name, value in changed.items())
    raise CourseError(
        f"Training needs about {(wanted.memory - program) / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB are free: "
        f"close other programs and kernels{f', or set {settings} in the profile' if settings else ''}."
    )
