"""How a step is taken: the loss over what is learned, LoRA layers, the training loop, and `train` around it."""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import get_scheduler, set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices

from .. import common, models, profiles
from ..common import CourseError
from . import memory
from .fast_lora import choose_dtype, use_fast_lora
from .tokens import IGNORE, collate, encode_all

WEIGHTS = "adapter_model.safetensors"
KNOBS = (
    "rank", "alpha", "dropout", "targets", "learning_rate", "epochs", "batch_size", "micro_batch_size",
    "max_length", "warmup_steps", "eval_steps", "dtype",
)  # fmt: skip
SEED = 0
MAX_GRADIENT = 1.0  # a longer gradient, all trained numbers taken as one vector, is shortened to this
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # of an optimizer that processes share (FSDP)


def only_the_first_speaks() -> contextlib.AbstractContextManager:
    """Drop what any process but the first prints inside the block: they would all say the same."""
    first = os.environ.get("RANK", "0") == "0"
    return contextlib.nullcontext() if first else contextlib.redirect_stdout(io.StringIO())


# --- the loss: mean cross entropy, in nats per token, over the tokens that the assistant has to say


def learned(labels: torch.Tensor) -> torch.Tensor:
    """Return a (rows, length - 1) mask: True where the *next* token is learned. labels: (rows, length)."""
    return labels[:, 1:] != IGNORE


@contextlib.contextmanager
def projecting_only(model, keep: torch.Tensor) -> Iterator[None]:
    """Give the model's logits, inside the block, the shape (number of True in keep, vocabulary): those positions only.

    The projection (one score for each of 49,152 tokens) is a fifth of the embedded model's work, thrown away wherever a
    label is masked. A hook, so that the model is still called as a whole, with what accelerate has put around it.
    """
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0][:, :-1][keep],))
    try:
        yield
    finally:
        hook.remove()


def summed_loss(model, batch: dict) -> torch.Tensor:
    """Sum the cross entropies of a batch of `collate` over its learned tokens, in nats; with the gradient.

    No attention mask is given: a causal model sees nothing to the right of a token, where all padding lies. So
    attention leaves out the half of its work that the mask would hide anyway.
    """
    bare = getattr(model, "module", model)  # without DDP's wrapping
    batch = {name: tensor.to(bare.device) for name, tensor in batch.items()}
    keep = learned(batch["labels"])
    with projecting_only(bare, keep):
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    return cross_entropy(logits.float(), batch["labels"][:, 1:][keep], reduction="sum")


def loss_sums(model, rows: Sequence[dict], pad_id: int, batch_size: int = 2) -> tuple[float, int]:
    """Return (sum of losses in nats, learned tokens) over rows of `encode`; the model's mode is left as it was."""
    was_training, total, tokens = model.training, 0.0, 0
    model.eval()
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))
    for i in range(0, len(rows), batch_size):
        batch = collate(rows[i : i + batch_size], pad_id)
        with torch.no_grad():
            total += summed_loss(model, batch).item()
        tokens += int(learned(batch["labels"]).sum())
    model.train(was_training)
    return total, tokens


def rows_loss(model, rows: Sequence[dict], pad_id: int, batch_size: int = 2) -> float:
    """Return the mean loss of a model over rows of `encode`, in nats per learned token."""
    total, tokens = loss_sums(model, rows, pad_id, batch_size)
    return total / tokens


def heldout_loss(model, dialogues: Sequence, tokenizer, max_length: int) -> float:
    """Return the mean loss over the assistant's tokens of dialogues, in nats per token; exp of it is the perplexity.

    Raises CourseError where nothing can be learned from the dialogues.
    """
    return rows_loss(model, encode_all(dialogues, tokenizer, max_length).rows, tokenizer.eos_token_id)


# --- the loop


def add_lora(model, profile: profiles.Profile):
    """Put fresh LoRA layers on the model and return it: base weights frozen, A random (fixed seed), B zero."""
    set_seed(SEED)
    if profile.dtype in profiles.QUANTIZED:
        with models.quiet():
            model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    config = LoraConfig(
        r=profile.rank,
        lora_alpha=profile.alpha,
        lora_dropout=profile.dropout,
        target_modules=list(profile.targets),
        task_type="CAUSAL_LM",
    )
    try:
        with models.quiet():
            return get_peft_model(model, config)
    except ValueError as error:
        raise CourseError(f"LoRA does not fit this base model: {error} Change `targets` in the profile.") from error


@dataclass
class Seen:
    """How far a run is; `train` gives it to its `on_step`.

    step, steps : optimizer steps done, and in all. tokens : trained on so far, without padding.
    history     : [(step, training loss)]. heldout : [(step, held-out loss)]; in nats per learned token.
    speed, left : trained tokens per second, and estimated seconds to the end; None at the start.
    """

    step: int = 0
    steps: int = 0
    history: list = field(default_factory=list)
    heldout: list = field(default_factory=list)
    tokens: int = 0
    speed: float | None = None
    left: float | None = None


def shares(profile: profiles.Profile, processes: int) -> tuple[int, int]:
    """Return (dialogues per forward pass, forward passes per step) of each process; together they make one batch."""
    each, rest = divmod(profile.batch_size, processes)
    if rest or not each:
        raise CourseError(
            f"batch_size {profile.batch_size} can't be shared evenly by {processes} processes. "
            "Start fewer processes, or set batch_size in the profile to a multiple of their number."
        )
    micro = max(n for n in range(1, min(each, profile.micro_batch_size) + 1) if each % n == 0)
    return micro, each // micro


def epoch_steps(rows: Sequence[dict], blank: dict, profile: profiles.Profile, epoch: int, processes: int = 1) -> list:
    """Return the steps of one epoch, each a list of micro-batches (lists of rows), in an order that the epoch decides.

    Dialogues of like length lie side by side; blank rows give every process as many micro-batches as the others.
    """
    micro, passes = shares(profile, processes)
    size, generator = micro * passes * processes, torch.Generator().manual_seed(SEED + epoch)
    order = get_length_grouped_indices([len(row["input_ids"]) for row in rows], size, generator=generator)
    found = [rows[i] for i in order]
    if processes > 1:
        found += [blank] * (-len(found) % (micro * processes))
    batches = [found[i : i + micro] for i in range(0, len(found), micro)]
    return [batches[i : i + passes * processes] for i in range(0, len(batches), passes * processes)]


def training_step(model, batches: Sequence[list], accelerator: Accelerator, pad_id: int) -> torch.Tensor:
    """Leave the gradient of one step's micro-batches (of `epoch_steps`) in the model; return their mean loss.

    Every learned token of the step weighs the same, however its dialogues lie in micro-batches and processes.
    """
    tokens = sum(label != IGNORE for batch in batches for row in batch for label in row["labels"][1:])
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    total = torch.zeros((), device=accelerator.device)
    for i, batch in enumerate(mine, 1):
        # Processes share their gradients once, at the last micro-batch.
        with accelerator.no_sync(model) if i < len(mine) else contextlib.nullcontext():
            loss = summed_loss(model, collate(batch, pad_id)) / tokens
            accelerator.backward(loss * accelerator.num_processes)  # sharing takes the mean; this makes it the sum
        total += loss.detach()
    return accelerator.reduce(total, "sum")


def fit(
    model,
    rows: Sequence[dict],
    heldout: Sequence[dict],
    pad_id: int,
    profile: profiles.Profile,
    accelerator: Accelerator,
    checkpoint: dict | None = None,
    save: Callable[[dict], None] = lambda state: None,
    on_step: Callable[[Seen], None] | None = None,
) -> Seen:
    """Train `model` to the end of the profile's epochs; return how far it came.

    rows, heldout : of `encode`. save : called with the state of the run at each checkpoint. checkpoint : such a state,
    to go on from. Raises CourseError where it is interrupted, runs out of memory, or a loss is no number.
    """
    processes, me, gpu = accelerator.num_processes, accelerator.process_index, accelerator.device.type == "cuda"
    blank = {"input_ids": [pad_id], "labels": [IGNORE]}
    steps = math.ceil(profile.epochs * len(epoch_steps(rows, blank, profile, 0, processes)))
    every = max(1, profile.eval_steps // 5)  # steps between two checkpoints: what an interruption loses at most
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), profile.learning_rate, weight_decay=0.0, fused=True)
    schedule = get_scheduler("linear", optimizer, profile.warmup_steps, steps)  # up in the warm-up, then down to 0
    bare, seen = model, Seen(steps=steps)
    if checkpoint:
        seen = Seen(**checkpoint["seen"])
        for name, parameter in trained.items():
            parameter.data.copy_(checkpoint["weights"][name])
    model, optimizer = accelerator.prepare(model, optimizer)
    torch.manual_seed(SEED + me)  # dropout: each process draws its own
    if checkpoint:
        set_optimizer_state_dict(bare, optimizer.optimizer, checkpoint["optimizer"], options=WHOLE)
        schedule.load_state_dict(checkpoint["schedule"])
        if me < len(checkpoint["random"]):
            torch.set_rng_state(checkpoint["random"][me][0])
            if gpu:
                torch.cuda.set_rng_state(checkpoint["random"][me][-1])

    start, first = time.monotonic(), None  # of the run, and (time, steps, tokens) at its first step
    # A notebook keeps its output, so there lines stay: a bar that is drawn over itself would be kept as rubbish.
    bar = None
    if accelerator.is_main_process and sys.stderr.isatty():
        bar = tqdm(total=steps, initial=seen.step, unit="step", dynamic_ncols=True)

    def tell(words, loss):
        if not math.isfinite(loss):
            raise CourseError(
                f"The {words} at step {seen.step} is {loss}: training has come apart. "
                "Lower learning_rate in the profile, or use dtype float32."
            )
        if not accelerator.is_main_process:
            return
        said = f"step {seen.step:3} of {steps} · {words} {loss:.3f} · {common.duration(time.monotonic() - start)}"
        if first and seen.step > first[1]:
            seconds = time.monotonic() - first[0]
            seen.speed = (seen.tokens - first[2]) / seconds
            seen.left = seconds / (seen.step - first[1]) * (steps - seen.step)
            said += f" · {seen.speed:.0f} tokens/s · {common.duration(seen.left)} left"
        if bar:
            bar.update(seen.step - bar.n)
        if bar and words == "training loss":
            bar.set_postfix_str(f"loss {loss:.3f}, {seen.speed:.0f} tokens/s")
        else:
            bar.write(said) if bar else print(said, flush=True)
        if on_step:
            on_step(replace(seen, history=list(seen.history), heldout=list(seen.heldout)))

    def look():
        """Take the loss of the held-out rows, of which each process looks at its share; blank rows make it even."""
        share = [*heldout, *[blank] * (-len(heldout) % processes)][me::processes]
        total, tokens = loss_sums(bare, share, pad_id)
        if processes > 1:
            sums = torch.tensor([total, tokens], dtype=torch.float64, device=accelerator.device)
            total, tokens = accelerator.reduce(sums, "sum").tolist()
        seen.heldout.append((seen.step, total / tokens))
        tell("held-out loss", total / tokens)

    losses = []
    plan = (step for epoch in count() for step in epoch_steps(rows, blank, profile, epoch, processes))
    try:
        if not checkpoint:
            look()
        model.train()
        first = time.monotonic(), seen.step, seen.tokens
        for batches in islice(plan, seen.step, steps):
            losses.append(training_step(model, batches, accelerator, pad_id).item())
            accelerator.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
            optimizer.step()
            if not accelerator.optimizer_step_was_skipped:  # float16: the gradient was too large for its scale
                schedule.step()
            optimizer.zero_grad()
            seen.step += 1
            seen.tokens += sum(len(row["input_ids"]) for batch in batches for row in batch if row is not blank)
            keep = seen.step % every == 0 or seen.step == steps
            if keep:
                seen.history.append((seen.step, sum(losses) / len(losses)))
                losses.clear()
                tell("training loss", seen.history[-1][1])
            if seen.step % profile.eval_steps == 0 or seen.step == steps:
                look()
            if keep:
                state = {"seen": vars(seen), "schedule": schedule.state_dict(), "weights": whole_weights(bare)}
                state["optimizer"] = get_optimizer_state_dict(bare, optimizer.optimizer, options=WHOLE)
                random = [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if gpu else [])]
                save({**state, "random": gather_object([random])})  # what dropout draws from, of each process
    except KeyboardInterrupt:
        kept = "the last checkpoint is kept: run this again to go on from there" if seen.step > every else "start again"
        raise CourseError(f"Interrupted at step {seen.step}; {kept}.") from None
    finally:
        if bar:
            bar.close()
    return seen


# --- what a run leaves on disk: checkpoints while it is under way, then the adapter with its manifest


@dataclass
class Run:
    """Result of `train`. Losses are means in nats per learned token.

    adapter : its folder. loss_before, loss_after : on held-out data, before the first and after the last step.
    history : [(step, training loss)]. heldout : [(step, held-out loss)]. tokens : trained on, without padding.
    seconds : of training, looks at the held-out loss included; where it was resumed, since then.
    processes, threads : that shared the work, and PyTorch's in each; the last bits depend on both.
    dtype   : of the frozen base model's numbers while training.
    """

    adapter: Path
    loss_before: float
    loss_after: float
    history: list = field(default_factory=list)
    heldout: list = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    processes: int = 1
    threads: int = 1
    dtype: str = "float32"


def recipe(train: Sequence, heldout: Sequence, base: str, profile: profiles.Profile) -> dict:
    """Name all that decides the result: base model, settings, and SHA-256 of the dialogues' messages, in order."""
    data = {}
    for name, dialogues in (("train", train), ("heldout", heldout)):
        text = json.dumps([d.messages for d in dialogues], ensure_ascii=False)
        data[name] = {"dialogues": len(dialogues), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    settings = {name: getattr(profile, name) for name in KNOBS}
    if profile.loss_on != "assistant":  # named only then: adapters from before this setting existed stay valid
        settings["loss_on"] = profile.loss_on
    return json.loads(json.dumps({"base": base, "settings": settings, "data": data}))  # as a file gives it back


def finished(out: Path, wanted: dict) -> Run | None:
    """Return the `Run` that already wrote the adapter `out` from the same recipe, or None."""
    try:
        manifest = json.loads(common.manifest_path(out).read_text(encoding="utf-8"))
        if not (out / WEIGHTS).is_file() or any(manifest[k] != v for k, v in wanted.items()):
            return None
        run = manifest["run"]
        pairs = {name: [tuple(pair) for pair in run[name]] for name in ("history", "heldout")}
        return Run(out, **{**run, **pairs})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no manifest, or not one of ours: train


def save_checkpoint(folder: Path, state: dict) -> None:
    """Write `<folder>/checkpoint-<step>.pt` whole or not at all; then remove the one before."""
    path, buffer = folder / f"checkpoint-{state['seen']['step']}.pt", io.BytesIO()
    torch.save(state, buffer)
    with common.atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    for other in folder.iterdir():
        if other != path:
            shutil.rmtree(other, ignore_errors=True) if other.is_dir() else other.unlink()


def last_checkpoint(folder: Path, wanted: dict) -> dict | None:
    """Return the newest checkpoint of the same recipe, or None, said aloud where there are others."""
    for path in sorted(folder.glob("checkpoint-*.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # damaged; torch has a dozen errors for it
            continue
        if state["wanted"] == wanted:
            print(f"Going on from {common.show(path)}, which an interrupted run of the same data and settings left.")
            return state
    if next(folder.glob("checkpoint-*"), None):
        print(
            f"{common.show(folder)} has no checkpoint of this data and these settings (or only an earlier version's): "
            "starting anew. What is there is kept until the first new checkpoint."
        )
    return None


def whole_weights(model) -> dict[str, torch.Tensor]:
    """Return {name: tensor} of what is trained. Where processes share it (FSDP), all of them have to ask for it."""
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: w.full_tensor() if hasattr(w, "full_tensor") else w for name, w in trained.items()}


def save_adapter(model, out: Path, base: str, weights: dict) -> None:
    """Write the adapter (`whole_weights` as safetensors, and its config) to the folder `out`, whole or not at all."""
    then = "The last checkpoint is kept. Free some space and run this again: it goes on from there."
    with common.atomic_folder(out, "the adapter", then) as temporary:
        model.peft_config["default"].base_model_name_or_path = models.base_name(base)
        # "auto" would look the base model up on a hub to see whether its vocabulary grew; ours did not.
        model.save_pretrained(temporary, state_dict=weights, save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's empty model card; our manifest says more


# --- a whole run


def train(
    train: Sequence,
    heldout: Sequence,
    base: str = "embedded",
    out: Path | str | None = None,
    profile: profiles.Profile | None = None,
    sources: Sequence = (),
    on_step: Callable[[Seen], None] | None = None,
) -> Run:
    """Train a LoRA adapter on lists of Dialogue (only `.messages` is used) and save it; return a `Run`.

    base    : "embedded", a folder or a hub id. out : the adapter's folder; default: this run's `adapter`.
    profile : default: the current one. sources : files that the dialogues came from, for the manifest.
    on_step : called with a `Seen` after each logged loss, and once where nothing is left to train;
              plots.training.LiveLoss() draws it.

    Where `out` already came from the same data, base and settings, that run is returned; an interrupted one goes on
    from its last checkpoint in `<out>.checkpoints/`. Several processes share each batch, and the first one writes.
    Raises CourseError for a corpus with nothing to learn, a loss that is no number, too little memory or disk.
    """
    out = Path(out) if out is not None else common.runs() / "adapter"
    profile = replace(profile or profiles.current(), base=base)
    wanted = recipe(train, heldout, base, profile)
    with only_the_first_speaks():
        if run := finished(out, wanted):
            print(f"Already trained: {common.show(out)} has this data and these settings. Delete it to train again.")
            if on_step:
                on_step(Seen(run.steps, run.steps, run.history, run.heldout, run.tokens))
            return run
        with models.memory_errors("halve micro_batch_size (the result stays the same) or lower max_length"):
            return _train(train, heldout, out, wanted, profile, sources, on_step)


def _train(train, heldout, out, wanted, profile, sources, on_step):
    # With several GPUs this gives each process its own, before a model is loaded; among processors, accelerate looks
    # for other processes only where it is told so.
    gpu = torch.cuda.is_available()
    cpu = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not gpu
    everyone = PartialState(cpu=cpu)
    folder = common.scratch(out.with_name(out.name + ".checkpoints"))
    checkpoint = last_checkpoint(folder, wanted)
    # A run that goes on computes in the same numbers, and with as many threads: sums depend in their last bits on how
    # they are shared out. Otherwise the first process decides for all.
    kept, all_threads = checkpoint or {}, torch.get_num_threads()
    threads = kept.get("threads") or memory.free_cores(all_threads)
    dtype, threads = broadcast_object_list([kept.get("dtype") or choose_dtype(profile.dtype), threads])
    profile, threads = replace(profile, dtype=dtype), min(threads, all_threads)

    memory.check_memory(profile, train)
    model, tokenizer = models.load(profile.base, dtype)
    rows, pad_id = {}, tokenizer.eos_token_id
    # What is held out is measured on the assistant's tokens, whatever is trained on: so that runs can be compared.
    for name, dialogues, loss_on in (("train", train, profile.loss_on), ("heldout", heldout, "assistant")):
        rows[name] = encode_all(dialogues, tokenizer, profile.max_length, loss_on)
        print(f"{name:8}{rows[name]}")
    model = use_fast_lora(add_lora(model, profile))
    check_run(model, rows["train"].rows, pad_id, shares(profile, everyone.num_processes)[0], out)

    AcceleratorState._reset_state()  # a notebook may train twice, and in another precision
    mixed = {"float16": "fp16", "int8": "fp16", "bfloat16": "bf16", "int4": "bf16"}.get(dtype, "no") if gpu else "no"
    accelerator = Accelerator(cpu=cpu, mixed_precision=mixed)

    def save(state):
        if everyone.is_main_process:
            save_checkpoint(folder, {"wanted": wanted, "threads": threads, "dtype": dtype, **state})

    torch.set_num_threads(threads)
    start = time.monotonic()
    try:
        sides = rows["train"].rows, rows["heldout"].rows
        seen = fit(model, *sides, pad_id, profile, accelerator, checkpoint, save, on_step)
    finally:
        torch.set_num_threads(all_threads)
    losses, seconds = [loss for _, loss in seen.heldout], round(time.monotonic() - start, 1)
    facts = {"history": seen.history, "heldout": seen.heldout, "steps": seen.step, "tokens": seen.tokens}
    facts |= {"seconds": seconds, "processes": everyone.num_processes, "threads": threads, "dtype": dtype}
    run = Run(out, losses[0], losses[-1], **facts)
    weights = whole_weights(model)
    if everyone.is_main_process:
        save_adapter(model, out, profile.base, weights)
        facts = {"loss_before": run.loss_before, "loss_after": run.loss_after, **facts}
        said, made_by = {name: str(encoded) for name, encoded in rows.items()}, "baize_nb.finetune.train (notebook 04)"
        common.write_manifest(out, made_by, sources=sources, **wanted, encoded=said, run=facts)
        shutil.rmtree(folder, ignore_errors=True)
    everyone.wait_for_everyone()
    print(f"Adapter in {common.show(out)}: held-out loss {run.loss_before:.3f} → {run.loss_after:.3f}")
    return run


def check_run(model, rows: Sequence[dict], pad_id: int, micro: int, out: Path) -> None:
    """Raise CourseError where a run could not come to its end; before its first step.

    model : with its LoRA layers. rows : those to train on. micro : dialogues per forward pass. out : of the adapter.
    """
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))[-micro:]
    longest, context = len(rows[-1]["input_ids"]), getattr(model.config, "max_position_embeddings", None)
    if context and longest > context:  # a model reads on beyond its context without a murmur, and answers nonsense
        raise CourseError(
            f"The longest dialogue has {longest:,} tokens, and the base model reads {context:,} at most: "
            f"set max_length in the profile to {context} or less."
        )
    wanted = memory.written(sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad))
    folder = next(parent for parent in out.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise CourseError(
            f"Checkpoints and adapter need {wanted / memory.GIB:.2f} GiB, and {common.show(folder)} has "
            f"{free / memory.GIB:.2f} GiB free: free some space or set BAIZE_RUNS to a folder on another disk."
        )
    loss = rows_loss(model, rows, pad_id, batch_size=1)  # damaged weights, or too large for their dtype, show here
    if not math.isfinite(loss):
        raise CourseError(
            f"The loss before the first step is {loss}: the base model's weights are damaged, or its numbers are too "
            "large for this dtype. Load another base model, or use dtype float32 in the profile."
        )
