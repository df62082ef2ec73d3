"""How a step is taken: the loss over what is learned, LoRA layers, the training loop, and `train` around it."""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.distributed.checkpoint import state_dict as whole
from torch.nn.functional import cross_entropy
from transformers import get_scheduler, set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices

from .. import common, models, profiles
from ..common import CourseError
from . import memory
from .fast_lora import choose_dtype, use_fast_lora
from .tokens import IGNORE, collate, encode_all

WEIGHTS = "adapter_model.safetensors"
KNOBS = ["rank", "alpha", "dropout", "targets", "learning_rate", "epochs", "batch_size", "micro_batch_size"]
KNOBS += ["max_length", "warmup_steps", "eval_steps", "dtype"]
SEED = 0
MAX_GRADIENT = 1.0  # a longer gradient, all trained numbers taken as one vector, is shortened to this
SEEN = ("step", "steps", "history", "heldout", "tokens")  # what a checkpoint keeps of a Run
WHOLE = whole.StateDictOptions(full_state_dict=True, cpu_offload=True)  # of an optimizer that processes share (FSDP)


def summed_loss(model, batch: dict) -> tuple[torch.Tensor, int]:
    """Return (sum of the cross entropies in nats, with its gradient; learned tokens) of a batch of `collate`.

    No attention mask is given: a causal model sees nothing to the right of a token, where all padding lies. So
    attention leaves out the half of its work that the mask would hide anyway.
    """
    bare = getattr(model, "module", model)  # without DDP's wrapping
    batch = {name: tensor.to(bare.device) for name, tensor in batch.items()}
    labels = batch["labels"][:, 1:]  # of each position: the next token
    keep = labels != IGNORE

    def only_learned(_, args):
        return (args[0][:, :-1][keep],)

    # The projection (one score for each of 49,152 tokens) is a fifth of the embedded model's work, thrown away where a
    # label is masked. A hook, so that the model is still called as a whole, with what accelerate has put around it.
    hook = bare.get_output_embeddings().register_forward_pre_hook(only_learned)
    try:
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits  # (learned tokens, vocabulary)
    finally:
        hook.remove()
    return cross_entropy(logits.float(), labels[keep], reduction="sum"), int(keep.sum())


def loss_sums(model, rows: Sequence[dict], pad_id: int) -> tuple[float, int]:
    """Return (sum of losses in nats, learned tokens) over rows of `encode`; the model's mode is left as it was."""
    was_training, total, tokens = model.training, 0.0, 0
    model.eval()
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))
    for i in range(0, len(rows), 2):
        with torch.no_grad():
            loss, learned = summed_loss(model, collate(rows[i : i + 2], pad_id))
        total += loss.item()
        tokens += learned
    model.train(was_training)
    return total, tokens


def heldout_loss(model, dialogues: Sequence, tokenizer, max_length: int) -> float:
    """Return the mean loss over the assistant's tokens of dialogues, in nats per token; exp of it is the perplexity."""
    rows = encode_all(dialogues, tokenizer, max_length).rows
    total, tokens = loss_sums(model, rows, tokenizer.eos_token_id)
    return total / tokens


def add_lora(model, profile: profiles.Profile):
    """Put fresh LoRA layers on the model and return it: base weights frozen, A random (fixed seed), B zero."""
    set_seed(SEED)
    config = LoraConfig(
        r=profile.rank,
        lora_alpha=profile.alpha,
        lora_dropout=profile.dropout,
        target_modules=list(profile.targets),
        task_type="CAUSAL_LM",
    )
    try:
        with models.quiet():
            if profile.dtype in profiles.QUANTIZED:
                model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
            return get_peft_model(model, config)
    except ValueError as error:
        raise CourseError(f"LoRA does not fit this base model: {error} Change `targets` in the profile.") from error


@dataclass
class Run:
    """How far a run is; at its end, its result. Losses are means in nats per learned token."""

    adapter: Path | None = None  # its folder
    step: int = 0  # optimizer steps done
    steps: int = 0  # in all
    loss_before: float = 0.0  # on held-out data, before the first step
    loss_after: float = 0.0  # the last one
    history: list = field(default_factory=list)  # [(step, training loss)]
    heldout: list = field(default_factory=list)  # [(step, held-out loss)]
    tokens: int = 0  # trained on, without padding
    seconds: float = 0.0  # with the looks at the held-out loss; where it was resumed, since then
    processes: int = 1  # that shared the work
    threads: int = 1  # PyTorch's in each; the last bits depend on both
    dtype: str = "float32"  # of the frozen base model's numbers


def epoch_steps(rows: Sequence[dict], blank: dict, profile: profiles.Profile, epoch: int, processes: int = 1) -> list:
    """Return the steps of one epoch, each a list of micro-batches (lists of rows), in an order that the epoch decides.

    Dialogues of like length lie side by side; blank rows give every process as many micro-batches as the others.
    """
    each, rest = divmod(profile.batch_size, processes)  # dialogues per step and process
    if rest or not each:
        raise CourseError(
            f"batch_size {profile.batch_size} can't be shared evenly by {processes} processes: set it to a multiple."
        )
    micro = max(n for n in range(1, min(each, profile.micro_batch_size) + 1) if each % n == 0)
    generator = torch.Generator().manual_seed(SEED + epoch)
    lengths = [len(row["input_ids"]) for row in rows]
    order = get_length_grouped_indices(lengths, profile.batch_size, generator=generator)
    found = [rows[i] for i in order]
    if processes > 1:
        found += [blank] * (-len(found) % (micro * processes))
    batches = [found[i : i + micro] for i in range(0, len(found), micro)]
    size = profile.batch_size // micro
    return [batches[i : i + size] for i in range(0, len(batches), size)]


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
            loss = summed_loss(model, collate(batch, pad_id))[0] / tokens
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
    on_step: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Train `model` to the end of the profile's epochs; return how it went.

    rows, heldout : of `encode`. save : called with the state of the run now and then; checkpoint : such a state, to go
    on from. Raises CourseError where it is interrupted, or a loss is no number.
    """
    processes, me = accelerator.num_processes, accelerator.process_index
    gpu = accelerator.device.type == "cuda"
    blank = {"input_ids": [pad_id], "labels": [IGNORE]}
    steps = math.ceil(profile.epochs * len(epoch_steps(rows, blank, profile, 0, processes)))
    every = max(1, profile.eval_steps // 5)  # steps between two checkpoints
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), profile.learning_rate, weight_decay=0.0, fused=True)
    schedule = get_scheduler("linear", optimizer, profile.warmup_steps, steps)  # up in the warm-up, then down to 0
    bare, run = model, Run(steps=steps)
    if checkpoint:
        run = Run(**{name: checkpoint["seen"][name] for name in SEEN})
        for name, parameter in trained.items():
            parameter.data.copy_(checkpoint["weights"][name])
    model, optimizer = accelerator.prepare(model, optimizer)
    torch.manual_seed(SEED + me)  # dropout: each process draws its own
    if checkpoint:
        whole.set_optimizer_state_dict(bare, optimizer.optimizer, checkpoint["optimizer"], options=WHOLE)
        schedule.load_state_dict(checkpoint["schedule"])
        random = checkpoint["random"][me % len(checkpoint["random"])]
        torch.set_rng_state(random[0])
        if gpu:
            torch.cuda.set_rng_state(random[-1])

    def tell(words, loss):
        if not math.isfinite(loss):
            raise CourseError(
                f"The {words} at step {run.step} is {loss}. Lower learning_rate or use dtype float32 in the profile; "
                "at step 0 the base model is damaged: fetch it again."
            )
        said = f"step {run.step:3} of {steps} · {words} {loss:.3f}"
        if run.step > first:
            seconds = (time.monotonic() - start) / (run.step - first)  # a step
            said += f" · {common.duration(seconds * (steps - run.step))} left"
        print(said, flush=True)
        on_step(run)

    def look():
        """Take the loss of the held-out rows, of which each process looks at its share; blank rows make it even."""
        share = [*heldout, *[blank] * (-len(heldout) % processes)][me::processes]
        sums = torch.tensor(loss_sums(bare, share, pad_id), dtype=torch.float64, device=accelerator.device)
        total, count = accelerator.reduce(sums, "sum").tolist()
        run.heldout.append((run.step, total / count))
        run.loss_before, run.loss_after = run.heldout[0][1], total / count
        tell("held-out loss", total / count)

    first, losses = run.step, []
    plan = (step for epoch in count() for step in epoch_steps(rows, blank, profile, epoch, processes))
    try:
        if not checkpoint:
            look()
        model.train()
        start = time.monotonic()
        for batches in islice(plan, run.step, steps):
            losses.append(training_step(model, batches, accelerator, pad_id).item())
            accelerator.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
            optimizer.step()
            if not accelerator.optimizer_step_was_skipped:  # float16: the gradient was too large for its scale
                schedule.step()
            optimizer.zero_grad()
            run.step += 1
            run.tokens += sum(len(row["input_ids"]) for batch in batches for row in batch if row is not blank)
            keep = run.step % every == 0 or run.step == steps
            if keep:
                run.history.append((run.step, sum(losses) / len(losses)))
                losses.clear()
                tell("training loss", run.history[-1][1])
            if run.step % profile.eval_steps == 0 or run.step == steps:
                look()
            if keep:
                state = {"schedule": schedule.state_dict(), "weights": whole_weights(bare)}
                state["seen"] = {name: getattr(run, name) for name in SEEN}
                state["optimizer"] = whole.get_optimizer_state_dict(bare, optimizer.optimizer, options=WHOLE)
                random = [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if gpu else [])]
                state["random"] = gather_object([random])  # what dropout draws from, of each process
                save(state)
    except KeyboardInterrupt:
        again = "Run this again: it goes on from the last checkpoint, if there was one."
        raise CourseError(f"Interrupted at step {run.step}. {again}") from None
    return run


def recipe(train: Sequence, heldout: Sequence, base: str, profile: profiles.Profile) -> dict:
    """Name all that decides the result: base model, settings, and SHA-256 of the dialogues' messages, in order."""
    data = {}
    for name, dialogues in (("train", train), ("heldout", heldout)):
        text = json.dumps([d.messages for d in dialogues], ensure_ascii=False)
        data[name] = {"dialogues": len(dialogues), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    settings = {name: getattr(profile, name) for name in KNOBS}
    if profile.loss_on != "assistant":  # named only then: adapters from before this setting existed stay valid
        settings["loss_on"] = profile.loss_on
    base = Path(base).name if Path(base).is_dir() else base  # nobody's paths
    return json.loads(json.dumps({"base": base, "settings": settings, "data": data}))  # as a file gives it back


def finished(out: Path, wanted: dict) -> Run | None:
    """Return the `Run` that already wrote the adapter `out` from the same recipe, or None."""
    manifest = common.read_manifest(out)
    if not (out / WEIGHTS).is_file() or any(manifest.get(k) != v for k, v in wanted.items()):
        return None
    facts = manifest["run"]
    for name in ("history", "heldout"):
        facts[name] = [tuple(pair) for pair in facts[name]]
    return Run(out, facts["steps"], **facts)


def last_checkpoint(folder: Path, wanted: dict) -> dict | None:
    """Return the newest checkpoint of the same recipe, or None."""
    for path in sorted(folder.glob("checkpoint-*.pt"), key=os.path.getmtime, reverse=True):
        with contextlib.suppress(Exception):  # damaged; torch has a dozen errors for it
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["wanted"] == wanted:
                print(f"Going on from {common.show(path)}, which an interrupted run left.")
                return state
    return None


def whole_weights(model) -> dict[str, torch.Tensor]:
    """Return {name: tensor} of what is trained. Where processes share it (FSDP), all of them have to ask for it."""
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return {name: p.full_tensor() if hasattr(p, "full_tensor") else p for name, p in trained.items()}


@models.memory_errors("halve micro_batch_size (the result stays the same) or lower max_length")
def train(
    train: Sequence,
    heldout: Sequence,
    base: str = "embedded",
    out: Path | str | None = None,
    profile: profiles.Profile | None = None,
    sources: Sequence = (),
    on_step: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Train a LoRA adapter on lists of Dialogue (only `.messages` is used) and save it; return a `Run`.

    base    : "embedded", a folder or a hub id. out : the adapter's folder; default: this run's `adapter`.
    profile : default: the current one. sources : files that the dialogues came from, for the manifest.
    on_step : called with the `Run` so far after each loss; plots.training.LiveLoss() draws it.

    Where `out` already came from the same data, base and settings, that run is returned; an interrupted one goes on
    from its last checkpoint in `<out>.checkpoints/`. Several processes share each batch, and the first one writes.
    Raises CourseError for a corpus with nothing to learn, a loss that is no number, too little memory or disk.
    """
    out = Path(out) if out is not None else common.runs() / "adapter"
    profile = replace(profile or profiles.current(), base=base)
    wanted = recipe(train, heldout, base, profile)
    if run := finished(out, wanted):
        print(f"Already trained: {common.show(out)} has this data and these settings. Delete it to train again.")
        on_step(run)
        return run

    # Each process gets its own GPU before a model is loaded; among processors, accelerate has to be told of the others.
    gpu = torch.cuda.is_available()
    cpu = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not gpu
    everyone = PartialState(cpu=cpu)
    folder = common.scratch(out.with_name(out.name + ".checkpoints"))
    checkpoint = last_checkpoint(folder, wanted)
    # The first process decides for all. A run that goes on computes in the same numbers, and with as many threads: the
    # last bits of a sum depend on how it is shared out.
    kept, all_threads = checkpoint or {}, torch.get_num_threads()
    threads = kept.get("threads") or memory.free_cores(all_threads)
    dtype, threads = broadcast_object_list([kept.get("dtype") or choose_dtype(profile.dtype), threads])
    profile, threads = replace(profile, dtype=dtype), min(threads, all_threads)
    if not gpu:  # which says by itself that it is full
        memory.check_memory(profile, train)
    model, tokenizer = models.load(profile.base, dtype)
    # A model reads on beyond its context without a murmur, and answers nonsense.
    limit, rows, pad_id = min(profile.max_length, model.config.max_position_embeddings), {}, tokenizer.eos_token_id
    # What is held out is measured on the assistant's tokens, whatever is trained on: so that runs can be compared.
    for name, dialogues, loss_on in (("train", train, profile.loss_on), ("heldout", heldout, "assistant")):
        rows[name] = encode_all(dialogues, tokenizer, limit, loss_on)
        print(f"{name:8}{rows[name]}")
    model = use_fast_lora(add_lora(model, profile))

    AcceleratorState._reset_state()  # a notebook may train twice, and in another precision
    mixed = {"float16": "fp16", "int8": "fp16", "bfloat16": "bf16", "int4": "bf16"}.get(dtype, "no") if gpu else "no"
    accelerator = Accelerator(cpu=cpu, mixed_precision=mixed)

    def save(state):
        if not everyone.is_main_process:
            return
        path, buffer = folder / f"checkpoint-{state['seen']['step']}.pt", io.BytesIO()
        torch.save({"wanted": wanted, "threads": threads, "dtype": dtype, **state}, buffer)
        with common.atomic_write(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        for other in folder.glob("checkpoint-*.pt"):
            if other != path:
                other.unlink()

    torch.set_num_threads(threads)
    start, sides = time.monotonic(), (rows["train"].rows, rows["heldout"].rows)
    try:
        run = fit(model, *sides, pad_id, profile, accelerator, checkpoint, save, on_step)
    finally:
        torch.set_num_threads(all_threads)
    run.adapter, run.seconds = out, round(time.monotonic() - start, 1)
    run.processes, run.threads, run.dtype = everyone.num_processes, threads, dtype
    weights = whole_weights(model)
    if everyone.is_main_process:
        model.peft_config["default"].base_model_name_or_path = models.base_name(base)
        then = "The last checkpoint is kept. Free some space and run this again: it goes on from there."
        with common.atomic_folder(out, "the adapter", then) as temporary:
            # "auto" would look the base model up on a hub to see whether its vocabulary grew; ours did not.
            model.save_pretrained(temporary, state_dict=weights, save_embedding_layers=False)
            (temporary / "README.md").unlink(missing_ok=True)  # peft's empty model card; our manifest says more
        facts = {name: value for name, value in vars(run).items() if name not in ("adapter", "step")}
        wanted["encoded"] = {name: str(encoded) for name, encoded in rows.items()}
        common.write_manifest(out, "baize_nb.finetune.train (notebook 04)", sources=sources, **wanted, run=facts)
        shutil.rmtree(folder, ignore_errors=True)
    everyone.wait_for_everyone()
    print(f"Adapter in {common.show(out)}: held-out loss {run.loss_before:.3f} → {run.loss_after:.3f}")
    return run
