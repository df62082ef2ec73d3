"""`train`: dialogues in, LoRA adapter out.

Knows: which settings go to peft and which to transformers' Trainer, and what to do when a run is interrupted.
Does not know: tokens (tokens.py), the loss (loss.py), batches (trainer.py), files (saving.py), what could go wrong
beforehand (preflight.py), what is printed on the way (watching.py).
"""

import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainingArguments, set_seed

from .. import common, models, profiles
from ..common import CourseError
from . import hardware, precision, preflight, saving
from .fastlora import quicken
from .tokens import encode_all
from .trainer import SEED, AssistantTrainer
from .watching import Seen, Watching, series


def train(train, validation, base="embedded", out=None, profile=None, sources=(), on_step=None):
    """Train a LoRA adapter and save it; return a `Run`. Built in notebook 04; settings of Baize, section 4.

    train, validation : lists of Dialogue (only `.messages` is used).
    base    : "embedded", a folder or a hub id. out : the adapter's folder; default: this run's `adapter`.
    profile : a Profile; default: the current one. sources : files that the dialogues came from, for the manifest.
    on_step : called with a `Seen` after each logged loss, and once where nothing is left to train;
              plots.training.LiveLoss() draws it.

    Where `out` already came from the same data, base and settings, nothing is trained and that run is returned.
    Checkpoints lie in `<out>.checkpoints/` until the adapter is written; an interrupted run goes on from the last one.
    In several processes (see `python -m baize_nb.finetune --help`) they share each batch; the first one writes.
    Raises CourseError for a corpus with nothing to learn, a loss that is no number, too little memory or disk.
    """
    with hardware.only_the_first_speaks():
        profile = profile or profiles.current()
        out = Path(out) if out is not None else common.runs() / "adapter"
        wanted = saving.recipe(train, validation, base, profile)
        run = saving.finished(out, wanted)
        if run is not None:
            print(f"Already trained: {common.show(out)} has this data and these settings. Delete it to train again.")
            if on_step:
                on_step(Seen(run.steps, run.steps, run.history, run.heldout))
            return run
        return _train(train, validation, out, wanted, base, profile, sources, on_step)


def _train(train, validation, out, wanted, base, profile, sources, on_step):
    """`train`, for a run that is not there yet."""
    everyone = PartialState(cpu=_on_cpus())  # with several GPUs: gives each process its own, before a model is loaded
    profile = replace(profile, dtype=_dtype(profile, _checkpoints(out), wanted))
    preflight.memory(profile, base, train)
    model, tokenizer = models.load(base, profile.dtype)
    encoded = {}
    # What is held out is measured on the assistant's tokens, whatever is trained on: so that runs can be compared.
    for name, dialogues, loss_on in (("train", train, profile.loss_on), ("heldout", validation, "assistant")):
        encoded[name] = encode_all(dialogues, tokenizer, profile.max_length, loss_on)
        print(f"{name:8}{encoded[name]}")
    model = quicken(add_lora(model, profile))
    preflight.check(model, encoded["train"].rows, tokenizer.eos_token_id, _shares(profile)[0], out)
    run = _fit(model, tokenizer, encoded, out, profile, wanted, on_step)
    weights = saving.whole_weights(model)
    if everyone.is_main_process:
        saving.save_adapter(model, out, base, weights)
        saving.save_manifest(run, wanted, encoded, sources)
        shutil.rmtree(_checkpoints(out), ignore_errors=True)
    everyone.wait_for_everyone()
    print(f"Adapter in {common.show(out)}: held-out loss {run.loss_before:.3f} → {run.loss_after:.3f}")
    return run


def add_lora(model, profile):
    """The model with fresh LoRA layers on it: base weights frozen, A random (fixed seed), B zero."""
    set_seed(SEED)
    if profile.dtype in profiles.QUANTIZED:
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model)
    try:
        with warnings.catch_warnings():
            # peft asks transformers for an attribute by its former name: their business, not the reader's.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return get_peft_model(model, lora_config(profile))
    except ValueError as error:
        raise CourseError(f"LoRA does not fit this base model: {error} Change `targets` in the profile.") from error


def lora_config(profile):
    """The profile's LoRA settings in peft's words."""
    return LoraConfig(
        r=profile.rank,
        lora_alpha=profile.alpha,
        lora_dropout=profile.dropout,
        target_modules=list(profile.targets),
        task_type="CAUSAL_LM",
    )


def _checkpoints(out):
    return out.with_name(out.name + ".checkpoints")


def _fit(model, tokenizer, encoded, out, profile, wanted, on_step):
    """Run Trainer to the end; return the Run, whose adapter is still to be saved."""
    folder = _checkpoints(out)
    arguments = _arguments(folder, profile)
    resume, threads = _resume(folder, wanted, arguments, profile.dtype)
    watching = Watching(on_step)
    trainer = AssistantTrainer(
        model=model,
        args=arguments,
        train_dataset=encoded["train"].rows,
        eval_dataset=encoded["heldout"].rows,
        callbacks=[watching],
        pad_id=tokenizer.eos_token_id,
    )
    trainer.remove_callback(PrinterCallback)  # it prints dictionaries; Watching says the same in words
    torch.manual_seed(SEED + arguments.process_index)  # dropout: each process draws its own
    start = time.monotonic()
    with hardware.computing_with(threads):
        _run(trainer, folder, resume, watching)
        if watching.evaluated != trainer.state.global_step:
            trainer.evaluate()
    heldout = series(trainer.state, "eval_loss")
    return saving.Run(
        adapter=out,
        loss_before=heldout[0][1],
        loss_after=heldout[-1][1],
        history=series(trainer.state, "loss"),
        heldout=heldout,
        steps=trainer.state.global_step,
        tokens=round(encoded["train"].tokens * profile.epochs),
        seconds=round(time.monotonic() - start, 1),
        processes=hardware.processes(),
        threads=threads,
        dtype=profile.dtype,
    )


def _resume(folder, wanted, arguments, dtype):
    """(checkpoint to go on from or None, threads to compute with). The first process looks; the others then see."""
    everyone = PartialState()  # what TrainingArguments has set up
    threads = hardware.free_cores(torch.get_num_threads())
    if everyone.is_main_process:
        saving.prepare(folder, wanted, threads=threads, dtype=dtype)
    everyone.wait_for_everyone()
    resume = saving.last_checkpoint(folder)
    arguments.eval_on_start = resume is None
    # Sums depend in their last bits on how they are shared out: a run that goes on computes with as many threads.
    before = saving.noted(folder, wanted) or {}
    return resume, min(before.get("threads") or threads, torch.get_num_threads())


def _dtype(profile, folder, wanted):
    """The dtype to train in: of a run that is to go on, or as the first process finds it best."""
    before = saving.noted(folder, wanted) or {}
    return broadcast_object_list([before.get("dtype") or precision.choose(profile.dtype)])[0]


def _on_cpus():
    """Whether several processes run on processors: accelerate only looks for their like where it is told so."""
    return hardware.processes() > 1 and not torch.cuda.is_available()


def _shares(profile):
    """(dialogues per forward pass, forward passes per step) of each process; together they make one whole batch."""
    each, rest = divmod(profile.batch_size, hardware.processes())
    if rest or not each:
        raise CourseError(
            f"batch_size {profile.batch_size} can't be shared evenly by {hardware.processes()} processes. "
            "Start fewer processes, or set batch_size in the profile to a multiple of their number."
        )
    micro = max(n for n in range(1, min(each, profile.micro_batch_size) + 1) if each % n == 0)
    return micro, each // micro


def _arguments(folder, profile):
    """The profile in Trainer's words."""
    gpu = torch.cuda.is_available()
    every = max(1, profile.eval_steps // 5)  # an interruption loses at most this many steps
    micro, passes = _shares(profile)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=profile.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=passes,
        learning_rate=profile.learning_rate,
        warmup_steps=profile.warmup_steps,
        eval_strategy="steps",
        eval_steps=profile.eval_steps,
        logging_steps=every,
        logging_nan_inf_filter=False,
        save_steps=every,
        save_total_limit=2,
        use_cpu=_on_cpus(),
        fp16=gpu and profile.dtype in ("float16", "int8"),
        bf16=gpu and profile.dtype in ("bfloat16", "int4"),
        seed=SEED,
        data_seed=SEED,
        dataloader_pin_memory=gpu,
        ddp_find_unused_parameters=False,
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
    # Trainer would split each batch over all GPUs that it finds, which the masked projection can't follow.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _run(trainer, folder, resume, watching):
    """trainer.train, with its troubles in plain words."""
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except KeyboardInterrupt:
        last = saving.last_checkpoint(folder)
        left = f"{common.show(last)} is kept: run this again to go on from there" if last else "no step was finished"
        raise CourseError(f"Interrupted at step {trainer.state.global_step}; {left}.") from None
    except torch.OutOfMemoryError as error:
        raise CourseError(
            f"Out of memory with {trainer.args.per_device_train_batch_size} dialogues per forward pass. Halve "
            "micro_batch_size (the result stays the same) or lower max_length in the profile."
        ) from error
    finally:
        watching.close()
