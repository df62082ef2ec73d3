"""`train`: dialogues in, LoRA adapter out.

Knows: which settings go to peft and which to transformers' Trainer, and what to do when a run is interrupted.
Does not know: tokens (tokens.py), the loss (loss.py), batches (trainer.py), files (saving.py).
"""

import math
import os
import shutil
import time
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from .. import artifacts, models, profiles
from ..errors import CourseError
from . import saving
from .tokens import encode_all
from .trainer import SEED, AssistantTrainer


def train(train, validation, base="embedded", out=None, profile=None, sources=()):
    """Train a LoRA adapter and save it; return a `Run`. Built in notebook 04; settings of Baize, section 4.

    train, validation : lists of Dialogue (only `.messages` is used).
    base    : "embedded", a folder or a hub id. out : the adapter's folder; default: this run's `adapter`.
    profile : a Profile; default: the current one. sources : files that the dialogues came from, for the manifest.

    Where `out` already came from the same data, base and settings, nothing is trained and that run is returned.
    Checkpoints lie in `<out>.checkpoints/` until the adapter is written; an interrupted run goes on from the last one.
    Raises CourseError for a corpus with nothing to learn, a loss that is no number, too little memory or disk.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise CourseError("finetune.train runs in one process. Start it with plain python, not with a launcher.")
    profile = profile or profiles.current()
    out = Path(out) if out is not None else artifacts.runs() / "adapter"
    wanted = saving.recipe(train, validation, base, profile)
    run = saving.finished(out, wanted)
    if run is not None:
        print(f"Already trained: {artifacts.show(out)} has this data and these settings. Delete it to train again.")
        return run
    model, tokenizer = models.load(base, profile.dtype)
    encoded = {
        "train": encode_all(train, tokenizer, profile.max_length),
        "heldout": encode_all(validation, tokenizer, profile.max_length),
    }
    for name, rows in encoded.items():
        print(f"{name:8}{rows}")
    model = add_lora(model, profile)
    run = _fit(model, tokenizer, encoded, out, profile, wanted)
    saving.save_adapter(model, out, base)
    saving.save_manifest(run, wanted, encoded, sources)
    shutil.rmtree(_checkpoints(out), ignore_errors=True)
    print(f"Adapter in {artifacts.show(out)}: held-out loss {run.loss_before:.3f} → {run.loss_after:.3f}")
    return run


def add_lora(model, profile):
    """The model with fresh LoRA layers on it: base weights frozen, A random (fixed seed), B zero."""
    set_seed(SEED)
    if profile.dtype == "int8":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model)
    config = LoraConfig(
        r=profile.rank,
        lora_alpha=profile.alpha,
        lora_dropout=profile.dropout,
        target_modules=list(profile.targets),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # peft asks transformers for an attribute by its former name: their business, not the reader's.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return get_peft_model(model, config)
    except ValueError as error:
        raise CourseError(f"LoRA does not fit this base model: {error} Change `targets` in the profile.") from error


def _checkpoints(out):
    return out.with_name(out.name + ".checkpoints")


def _fit(model, tokenizer, encoded, out, profile, wanted):
    """Run Trainer to the end; return the Run, whose adapter is still to be saved."""
    folder = _checkpoints(out)
    resume = saving.prepare(folder, wanted)
    progress = _Progress()
    trainer = AssistantTrainer(
        model=model,
        args=_arguments(folder, profile, resume),
        train_dataset=encoded["train"].rows,
        eval_dataset=encoded["heldout"].rows,
        callbacks=[progress],
        pad_id=tokenizer.eos_token_id,
    )
    trainer.remove_callback(PrinterCallback)  # it prints dictionaries; _Progress says the same in words
    start = time.monotonic()
    _run(trainer, folder, resume)
    state = trainer.state
    if progress.evaluated != state.global_step:
        trainer.evaluate()
    heldout = _series(state, "eval_loss")
    return saving.Run(
        adapter=out,
        loss_before=heldout[0][1],
        loss_after=heldout[-1][1],
        history=_series(state, "loss"),
        heldout=heldout,
        steps=state.global_step,
        tokens=round(encoded["train"].tokens * profile.epochs),
        seconds=round(time.monotonic() - start, 1),
    )


def _arguments(folder, profile, resume):
    """The profile in Trainer's words."""
    gpu = torch.cuda.is_available()
    every = max(1, profile.eval_steps // 5)  # an interruption loses at most this many steps
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=profile.epochs,
        per_device_train_batch_size=profile.micro_batch_size,
        gradient_accumulation_steps=max(1, profile.batch_size // profile.micro_batch_size),
        learning_rate=profile.learning_rate,
        warmup_steps=profile.warmup_steps,
        eval_strategy="steps",
        eval_steps=profile.eval_steps,
        eval_on_start=resume is None,
        logging_steps=every,
        logging_nan_inf_filter=False,
        save_steps=every,
        save_total_limit=2,
        fp16=gpu and profile.dtype in ("float16", "int8"),
        bf16=gpu and profile.dtype == "bfloat16",
        seed=SEED,
        data_seed=SEED,
        dataloader_pin_memory=gpu,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
    # Trainer would split each batch over all GPUs that it finds, which the masked projection can't follow.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _run(trainer, folder, resume):
    """trainer.train, with its troubles in plain words."""
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except KeyboardInterrupt:
        last = saving.last_checkpoint(folder)
        left = f"{artifacts.show(last)} is kept: run this again to go on from there" if last else "no step was finished"
        raise CourseError(f"Interrupted at step {trainer.state.global_step}; {left}.") from None
    except torch.OutOfMemoryError as error:
        raise CourseError(
            f"Out of memory with {trainer.args.per_device_train_batch_size} dialogues per forward pass. Halve "
            "micro_batch_size (the result stays the same) or lower max_length in the profile."
        ) from error


def _series(state, name):
    """[(step, value)] of everything logged under `name`, resumed runs included."""
    return sorted({entry["step"]: entry[name] for entry in state.log_history if name in entry}.items())


class _Progress(TrainerCallback):
    """One line of text per step and per look at the held-out loss; stops a run whose loss is no number."""

    def __init__(self):
        self.start, self.evaluated = time.monotonic(), -1

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name, words in (("loss", "training loss"), ("eval_loss", "held-out loss")):
            if name not in logs:
                continue
            if not math.isfinite(float(logs[name])):
                raise CourseError(
                    f"The {words} at step {state.global_step} is {logs[name]}: training has come apart. "
                    "Lower learning_rate in the profile, or use dtype float32."
                )
            at = f"step {state.global_step:3} of {state.max_steps}"
            print(f"{at} · {words} {float(logs[name]):.3f} · {time.monotonic() - self.start:.0f} s", flush=True)

    def on_evaluate(self, args, state, control, **kwargs):
        self.evaluated = state.global_step
