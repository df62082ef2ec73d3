"""Every knob of every stage, one row per profile.

`ci` and `laptop` are run by this repository's tests; `colab` and `paper-*` need a GPU and were never run here.
"""

from dataclasses import dataclass, fields, replace

from .common import CourseError, profile_name

# Every linear layer but o_proj: the only choice that gives the paper's 17.9 / 28.0 / 54.6 million parameters.
BAIZE_TARGETS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")
QUANTIZED = ("int8", "int4")  # dtypes of a base model that bitsandbytes packs; on a GPU only


@dataclass(frozen=True)
class Profile:
    """Settings of one run of the course. Tokens are those of the model used; lengths include the prompt."""

    name: str
    # 01 seed sampling
    seeds: int  # in all, spread evenly over the sources
    # 02 self-chat
    max_turns: int  # a turn is one user message and one assistant message
    answer_tokens: int  # at most, per assistant message
    question_tokens: int  # at most, per user message
    concurrency: int  # dialogues in flight; the embedded teacher opens as many slots
    # 03 corpus inspection
    heldout: int  # dialogues kept away from training
    # 04 LoRA fine-tuning
    base: str  # "embedded", a folder, or a model hub id
    rank: int
    alpha: int
    dropout: float
    targets: tuple
    learning_rate: float
    epochs: float
    batch_size: int  # dialogues per optimizer step
    micro_batch_size: int  # dialogues per forward pass
    max_length: int  # tokens per dialogue
    warmup_steps: int
    eval_steps: int  # optimizer steps between two looks at the held-out loss
    dtype: str  # of the frozen base model: "float32", "bfloat16", "float16", "int8", "int4"; "auto": as training tries
    loss_on: str  # "assistant": its words and stops; "all": every token, the human's and the markers too, as in Baize
    # 05 chat
    reply_tokens: int
    # 06 evaluation
    eval_prompts: int  # of the course's prompts that are answered and judged
    # 07 self-distillation
    sdf_prompts: int  # prompts that are answered several times; the paper does not say how many
    candidates: int  # sampled replies to each
    sdf_floor: int  # points of 100 that the best reply to a question needs to be trained on
    sdf_max_length: int  # tokens per dialogue of the second training

    def table(self) -> dict:
        """List all settings as `{name: value}`, in the order above, for printing."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


LAPTOP = Profile(
    name="laptop",
    seeds=160,
    max_turns=3,
    answer_tokens=80,
    question_tokens=40,
    concurrency=16,
    heldout=16,
    base="embedded",
    rank=8,
    alpha=16,
    dropout=0.05,
    targets=BAIZE_TARGETS,
    learning_rate=5e-4,
    epochs=1,
    batch_size=8,
    micro_batch_size=2,
    max_length=512,
    warmup_steps=2,
    eval_steps=5,
    dtype="auto",
    loss_on="assistant",
    reply_tokens=96,
    eval_prompts=60,
    sdf_prompts=64,
    candidates=4,
    sdf_floor=80,  # by the rules, a reply that was cut off has 75 at most
    sdf_max_length=512,
)

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


def _paper(size, learning_rate, micro_batch_size):  # Baize (arXiv 2304.01196), section 4 and table 3
    return replace(
        LAPTOP,
        name=f"paper-{size}",
        seeds=115_000,
        max_turns=4,
        answer_tokens=512,
        question_tokens=128,
        concurrency=100,
        heldout=2_000,
        base=f"huggyllama/llama-{size}",
        learning_rate=learning_rate,
        epochs=1,
        batch_size=64,
        micro_batch_size=micro_batch_size,
        warmup_steps=100,
        eval_steps=200,
        dtype="int8",
        loss_on="all",
        reply_tokens=512,
        eval_prompts=80,
        sdf_prompts=10_000,
        sdf_max_length=1024,
    )


PROFILES = {
    p.name: p for p in (CI, LAPTOP, COLAB, _paper("7b", 2e-4, 32), _paper("13b", 1e-4, 16), _paper("30b", 5e-5, 8))
}


def get(name: str) -> Profile:
    """Get the profile called `name`. Raises CourseError, naming the known ones, for any other."""
    if name not in PROFILES:
        raise CourseError(f"BAIZE_PROFILE is {name!r}, which is no profile. Set it to one of: {', '.join(PROFILES)}.")
    return PROFILES[name]


def current() -> Profile:
    """Get the profile that `BAIZE_PROFILE` names; `laptop` where it is not set."""
    return get(profile_name())
