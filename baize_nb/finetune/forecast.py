"""What a training run will take, by arithmetic: memory, minutes, disk, and the first setting to change. Loads no model.

Knows: the shapes of the profiles' base models, and what training keeps in memory for each token. Does not know: this
machine, but for how fast it multiplies matrices; doctor/needs.py compares. GB are 10⁹ bytes.

Memory and minutes on a processor were held against real runs. What a GPU takes was held against the paper's figures
only (see tests/test_needs.py): none was there to try.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from .. import profiles
from ..common import CourseError

GB = 1e9
# Bytes of a weight in a linear layer; "auto" at its most.
BYTES = {"auto": 4, "float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int4": 0.5}
GPU_ONLY = ("float16", *profiles.QUANTIZED)
CHECKPOINTS = 3  # two are kept, and one more is there while it is written
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

    def matrices(self):
        """{name: (outputs, inputs)} of the linear layers of one block."""
        h, f, kv = self.hidden, self.feed_forward, self.key_value
        attention = {"q_proj": (h, h), "k_proj": (kv, h), "v_proj": (kv, h), "o_proj": (h, h)}
        return {**attention, "gate_proj": (f, h), "up_proj": (f, h), "down_proj": (h, f)}

    @property
    def linear(self):
        """Numbers in all linear layers of all blocks."""
        return self.layers * sum(outputs * inputs for outputs, inputs in self.matrices().values())

    @property
    def embedding(self):
        """Numbers in the embedding and the projection to the vocabulary."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def lora(self, targets, rank):
        """Numbers that LoRA trains."""
        return self.layers * rank * sum(sum(self.matrices()[name]) for name in targets)


SHAPES = {
    "embedded": Shapes(576, 1536, 30, 192, 49_152, tied=True),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Shapes(2048, 8192, 24, 2048, 49_152, tied=True),
    "huggyllama/llama-7b": Shapes(4096, 11_008, 32, 4096, 32_000),
    "huggyllama/llama-13b": Shapes(5120, 13_824, 40, 5120, 32_000),
    "huggyllama/llama-30b": Shapes(6656, 17_920, 60, 6656, 32_000),
}


def shapes(base):
    """`Shapes` of a base model: one of the profiles', or a folder with a config.json. CourseError for any other."""
    if base in SHAPES:
        return SHAPES[base]
    try:
        config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
        head = config["hidden_size"] // config["num_attention_heads"]
        return Shapes(
            config["hidden_size"],
            config["intermediate_size"],
            config["num_hidden_layers"],
            config.get("num_key_value_heads", config["num_attention_heads"]) * head,
            config["vocab_size"],
            config.get("tie_word_embeddings", False),
        )
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(
            f"The sizes of the base model {base!r} are not known ({type(error).__name__}: {error}), so nothing can be "
            "predicted. Download it and give its folder as `base`."
        ) from None


@dataclass(frozen=True)
class Needs:
    """What `train` will take with a profile.

    memory : bytes at its peak, on the `place` ("processor" or "GPU"); parts : the same by what takes them.
    disk   : bytes, the base model's files and the checkpoints included.
    minutes: of training; None for a GPU, on which nothing was ever measured here.
    """

    profile: str
    place: str
    parts: dict
    disk: float
    minutes: float | None

    @property
    def memory(self):
        """Bytes at the peak."""
        return sum(self.parts.values())

    def __str__(self):
        minutes = "" if self.minutes is None else f", {_minutes(self.minutes)}"
        where = " of a GPU" if self.place == "GPU" else ""
        memory, disk = (f"{n / GB:.{0 if n >= 10 * GB else 1}f} GB" for n in (self.memory, self.disk))
        return f"{memory} of memory{where}{minutes}, {disk} of disk"


def _minutes(number):
    return "under a minute" if number < 1 else f"about {number:.0f} min" if number < 120 else f"{number / 60:.0f} hours"


def needs(profile=None, dialogues=None, speed=None):
    """`Needs` of training with a profile, before anything is loaded. Built in notebook 04.

    profile   : default: the current one.
    dialogues : those to be trained on; default: as many as the profile makes, each half as long as it may be.
    speed     : multiplications and additions a second of this machine; default: measured, in half a second.
    """
    profile = profile or profiles.current()
    shape, place = shapes(profile.base), "GPU" if profile.dtype in GPU_ONLY else "processor"
    lengths, learned = _lengths(profile, dialogues)
    if profile.loss_on == "all":
        learned = 1.0
    longest = max(lengths) if dialogues else profile.max_length
    lora = shape.lora(profile.targets, profile.rank)
    parts = {
        "program": PROGRAM[place],
        "base model": _weights(shape, profile.dtype),
        "LoRA, its gradient and optimizer": 16 * lora,  # four numbers of four bytes each
        "kept for the gradient": _kept(shape, profile, profile.micro_batch_size * longest),
        "scores": _scores(shape, profile.dtype, profile.micro_batch_size * longest * learned),
    }
    minutes = None
    if place == "processor":
        minutes = _work(shape, profile, lengths, learned) / (speed or matmul_speed(shape)) / EFFICIENCY / 60
    return Needs(profile.name, place, parts, _disk(shape, profile.base, lora), minutes)


def _lengths(profile, dialogues):
    """([tokens of each dialogue, as the limit leaves them], share of the tokens that is learned), estimated."""
    if not dialogues:
        return [profile.max_length // 2] * max(1, profile.seeds - profile.heldout), LEARNED
    lengths, learned = [], 0
    for dialogue in dialogues:
        words = {m["role"]: 0 for m in dialogue.messages}
        for message in dialogue.messages:
            words[message["role"]] += len(message["content"]) / CHARACTERS
        lengths.append(PREAMBLE + round(sum(words.values())) + MARKER * len(dialogue.messages))
        learned += words.get("assistant", 0)
    return [min(length, profile.max_length) for length in lengths], learned / sum(lengths)


def _weights(shape, dtype):
    """Bytes of the base model; bitsandbytes leaves the embedding alone, and peft then makes it float32."""
    return shape.linear * BYTES[dtype] + shape.embedding * max(BYTES[dtype], 4 if dtype in profiles.QUANTIZED else 0)


def _kept(shape, profile, tokens):
    """Bytes that a forward pass keeps for the backward pass.

    Each block keeps its residual stream twice, queries, keys, values, the attention's result, and three widths of the
    feed-forward. LoRA keeps its inputs: in float32 (fastlora.py) what the matrices share, and the places that dropout
    left out; otherwise (peft) one for each matrix, and dropout's mask, in float32.
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


def _scores(shape, dtype, tokens):
    """Bytes of the scores over the vocabulary, of their logarithms and of both gradients, for the learned tokens."""
    return tokens * shape.vocabulary * (4 * 4 + (0 if dtype in ("auto", "float32") else 2))


def _work(shape, profile, lengths, learned):
    """Multiplications and additions of a whole run.

    A token costs two for each weight on the way forth and, since frozen weights need no gradient, two on the way back.
    """
    steps = profile.epochs * len(lengths) / profile.batch_size
    looks = 2 + steps // profile.eval_steps  # at the held-out loss
    heldout = profile.heldout * sum(lengths) / len(lengths)
    each = 2 * (shape.linear + learned * shape.vocabulary * shape.hidden)
    return each * (2 * profile.epochs * sum(lengths) + looks * heldout)


def _disk(shape, base, lora):
    """Bytes of the base model's files as they are fetched, of the checkpoints, and of the adapter."""
    if base == "embedded":
        files = 0.1 * GB + 4 * (shape.linear + shape.embedding)  # the GGUF file, and its converted form
    else:
        files = 0 if Path(base).is_dir() else 2 * (shape.linear + shape.embedding)
    return files + written(4 * lora)


def written(trained):
    """Bytes that training writes, from the bytes of the trained parameters: checkpoints and the adapter.

    A checkpoint holds the adapter and Adam's two means of each number; the adapter is written once more.
    """
    return trained * (3 * CHECKPOINTS + 1)


def matmul_speed(shape, seconds=0.5):
    """Multiplications and additions a second of this machine, in float32, at matrices like a model's."""
    import numpy

    left = numpy.ones((512, min(shape.hidden, 2048)), numpy.float32)
    right = numpy.ones((left.shape[1], min(shape.feed_forward, 4096)), numpy.float32)
    left @ right  # the first one wakes the threads
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        left @ right
        done += 1
    return done * 2 * 512 * right.size / passed


def change(profile, memory, dialogues=None):
    """The first settings to change so that training fits into `memory` bytes, as {name: value}; {} where it fits.

    First the micro-batch, which leaves the result as it is; then the length of a dialogue; then, for a quantized base,
    4 bits. None where even that is not enough: it takes a smaller base model, or a larger machine.
    """
    changed = {}
    for name, value in _smaller(profile):
        if needs(replace(profile, **changed), dialogues, speed=1).memory <= memory:
            return changed
        changed[name] = value
    return changed if needs(replace(profile, **changed), dialogues, speed=1).memory <= memory else None


def _smaller(profile):
    """(setting, value), from the one that costs least to the one that costs most."""
    for name, least in (("micro_batch_size", 1), ("max_length", 128)):
        value = getattr(profile, name)
        while value >= 2 * least:
            value //= 2
            yield name, value
    if profile.dtype == "int8":
        yield "dtype", "int4"
