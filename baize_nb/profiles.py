"""Every knob of every stage, one row per profile.

`ci` and `laptop` are run by this repository's tests; `colab` and `paper-*` need a GPU and were never run here.
"""

import os
from dataclasses import asdict, dataclass, replace

from .common import CourseError, profile_name

# Every linear layer but o_proj: the only choice that gives the paper's 17.9 / 28.0 / 54.6 million parameters.
BAIZE_TARGETS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")
QUANTIZED = ("int8", "int4")  # dtypes of a base model that bitsandbytes packs; on a GPU only


@dataclass(frozen=True)
class Profile:
    """Settings of one run of the course; the defaults are those of `laptop`.

    Tokens are those of the model used; lengths include the prompt.
    """

    name: str = "laptop"
    # 01 seed sampling
    seeds: int = 160  # in all, spread evenly over the sources
    # 02 self-chat
    max_turns: int = 3  # a turn is one user message and one assistant message
    answer_tokens: int = 80  # at most, per assistant message
    question_tokens: int = 40  # at most, per user message
    concurrency: int = 16  # dialogues in flight; the embedded teacher opens as many slots
    # 03 corpus inspection
    heldout: int = 16  # dialogues kept away from training
    # 04 LoRA fine-tuning
    base: str = "embedded"  # or a folder, or a model hub id
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple = BAIZE_TARGETS
    learning_rate: float = 5e-4
    epochs: float = 1
    batch_size: int = 8  # dialogues per optimizer step
    micro_batch_size: int = 2  # dialogues per forward pass
    max_length: int = 512  # tokens per dialogue
    warmup_steps: int = 2
    eval_steps: int = 5  # optimizer steps between two looks at the held-out loss
    dtype: str = "auto"  # of the frozen base: float32, bfloat16, float16, int8 or int4; "auto": as training tries
    loss_on: str = "assistant"  # its words and stops; "all": every token, human turns and markers too, as in Baize
    # 05 chat
    reply_tokens: int = 96
    # 06 evaluation
    eval_prompts: int = 60  # of the course's prompts that are answered and judged
    # 07 self-distillation
    sdf_prompts: int = 64  # prompts that are answered several times; the paper does not say how many
    candidates: int = 4  # sampled replies to each
    sdf_floor: int = 80  # points of 100 that a reply needs to be trained on; one that was cut off has 75 at most
    sdf_max_length: int = 512  # tokens per dialogue of the second training

    def table(self) -> dict:
        """List all settings as `{name: value}`, in the order above, for printing."""
        return asdict(self)


LAPTOP = Profile()

CI = replace(
    LAPTOP,
    name="ci",
    seeds=16,
    max_turns=2,
    answer_tokens=56,
    question_tokens=32,
    heldout=4,
    max_length=192,
    batch_size=2,
    eval_steps=2,
    dtype="float32",  # the same on every machine
    reply_tokens=48,
    eval_prompts=10,
    sdf_prompts=6,
    sdf_floor=0,  # so little trained, it may have no good reply at all
    sdf_max_length=192,
)

COLAB = replace(
    LAPTOP,
    name="colab",
    seeds=400,
    max_turns=4,
    answer_tokens=256,
    question_tokens=64,
    heldout=40,
    base="HuggingFaceTB/SmolLM2-1.7B-Instruct",
    learning_rate=2e-4,
    epochs=2,
    batch_size=16,
    dtype="float16",
    reply_tokens=256,
    sdf_prompts=400,
    sdf_max_length=1024,
)

PAPER_7B = replace(  # Baize (arXiv 2304.01196), section 4 and table 3
    LAPTOP,
    name="paper-7b",
    seeds=115_000,
    max_turns=4,
    answer_tokens=512,
    question_tokens=128,
    concurrency=100,
    heldout=2_000,
    base="huggyllama/llama-7b",
    learning_rate=2e-4,
    batch_size=64,
    micro_batch_size=32,
    warmup_steps=100,
    eval_steps=200,
    dtype="int8",
    loss_on="all",
    reply_tokens=512,
    eval_prompts=80,
    sdf_prompts=10_000,
    sdf_max_length=1024,
)
PAPER_13B = replace(PAPER_7B, name="paper-13b", base="huggyllama/llama-13b", learning_rate=1e-4, micro_batch_size=16)
PAPER_30B = replace(PAPER_7B, name="paper-30b", base="huggyllama/llama-30b", learning_rate=5e-5, micro_batch_size=8)

PROFILES = {p.name: p for p in (CI, LAPTOP, COLAB, PAPER_7B, PAPER_13B, PAPER_30B)}


def get(name: str) -> Profile:
    """Get the profile called `name`."""
    if name not in PROFILES:
        raise CourseError(f"BAIZE_PROFILE is {name!r}, which is no profile. Set it to one of: {', '.join(PROFILES)}.")
    return PROFILES[name]


def current() -> Profile:
    """Get the profile that `BAIZE_PROFILE` names, with the base model that `BAIZE_BASE` names, if it does."""
    profile = get(profile_name())
    return replace(profile, base=os.environ.get("BAIZE_BASE", "").strip() or profile.base)
