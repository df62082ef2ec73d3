"""What a training run leaves on disk: checkpoints while it is under way, then the adapter with its manifest."""

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import common, models, profiles

WEIGHTS = "adapter_model.safetensors"
KNOBS = (
    "rank", "alpha", "dropout", "targets", "learning_rate", "epochs", "batch_size", "micro_batch_size",
    "max_length", "warmup_steps", "eval_steps", "dtype",
)  # fmt: skip


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
