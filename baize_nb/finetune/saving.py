"""What a training run leaves on disk: the adapter, its manifest, and checkpoints while it is under way.

Knows: how to tell whether something on disk came from the same data and settings. Does not know: how to train.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .. import common, models

WEIGHTS = "adapter_model.safetensors"
KNOBS = (
    "rank", "alpha", "dropout", "targets", "learning_rate", "epochs", "batch_size", "micro_batch_size",
    "max_length", "warmup_steps", "eval_steps", "dtype",
)  # fmt: skip


@dataclass
class Run:
    """Result of `train`. Losses are means in nats per learned token.

    adapter  : folder of the trained adapter.
    loss_before, loss_after : held-out loss before the first and after the last step.
    history  : [(step, training loss)]. heldout : [(step, held-out loss)].
    steps    : optimizer steps. tokens : tokens trained on, without padding. seconds : of this run's training,
               looks at the held-out loss included; where it was resumed, since then.
    processes, threads : how many shared the work, and PyTorch's threads in each; the last bits depend on both.
    dtype    : of the frozen base model's numbers while training.
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


def recipe(train, validation, base, profile):
    """Everything that decides the result: base model, settings, and SHA-256 of the dialogues, as json would read it."""
    settings = {name: getattr(profile, name) for name in KNOBS}
    if profile.loss_on != "assistant":  # named only then: adapters from before this setting existed stay valid
        settings["loss_on"] = profile.loss_on
    wanted = {
        "base": base,
        "settings": settings,
        "data": {"train": _digest(train), "heldout": _digest(validation)},
    }
    return json.loads(json.dumps(wanted))


def _digest(dialogues):
    """SHA-256 of the messages of dialogues, in order, and their number."""
    text = json.dumps([d.messages for d in dialogues], ensure_ascii=False)
    return {"dialogues": len(dialogues), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def finished(out, wanted):
    """The `Run` that already wrote `out` from the same recipe, or None."""
    try:
        manifest = json.loads(out.with_name(out.name + ".manifest.json").read_text(encoding="utf-8"))
        if not (out / WEIGHTS).is_file() or any(manifest[k] != v for k, v in wanted.items()):
            return None
        run = manifest["run"]
        pairs = {name: [tuple(pair) for pair in run[name]] for name in ("history", "heldout")}
        return Run(out, **{**run, **pairs})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no manifest, or not one of ours: train


def prepare(folder, wanted, **began):
    """Make the checkpoint folder ready: leave what a run of the same recipe can go on from, else start anew.

    began : what a new run begins with and one that goes on from it has to keep, see `noted`.
    """
    last = last_checkpoint(folder)
    if noted(folder, wanted) is not None:
        print(f"Going on from {common.show(last)}, which an interrupted run of the same data and settings left.")
        return
    if last is not None:
        print(f"{common.show(folder)} came from other data or settings: starting anew.")
    shutil.rmtree(folder, ignore_errors=True)
    common.write_text(folder / "recipe.json", json.dumps({"wanted": wanted, **began}, indent=2) + "\n")


def noted(folder, wanted):
    """What an interrupted run of the same recipe that left a checkpoint here began with; None where there is none."""
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        same = recipe.pop("wanted") == wanted
    except (OSError, ValueError, KeyError):
        return None
    return recipe if same and last_checkpoint(folder) else None


def last_checkpoint(folder):
    """The newest checkpoint that was written whole, or None. Trainer writes trainer_state.json last."""
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            found.append((json.loads((path / "trainer_state.json").read_text())["global_step"], path))
        except (OSError, ValueError, KeyError):
            continue  # torn: the run was killed while it wrote this one
    return max(found)[1] if found else None


def base_name(base):
    """How an adapter names its base model: a hub id as it is, a folder by its last part, never this machine's path."""
    if base == "embedded":
        return f"{models.NAME} (embedded)"
    return Path(base).name if Path(base).exists() else base


def whole_weights(model):
    """{name: tensor} of what is trained. Where processes share it among them (FSDP), all have to ask for it."""
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: w.full_tensor() if hasattr(w, "full_tensor") else w for name, w in trained.items()}


def save_adapter(model, out, base, weights=None):
    """Write the adapter (safetensors and its config) to the folder `out`, whole or not at all.

    weights : what `whole_weights` gave, where several processes had to ask for it.
    """
    then = "The last checkpoint is kept. Free some space and run this again: it goes on from there."
    with common.atomic_folder(out, "the adapter", then) as temporary:
        model.peft_config["default"].base_model_name_or_path = base_name(base)
        # "auto" would look the base model up on a hub to see whether its vocabulary grew; ours did not.
        model.save_pretrained(temporary, state_dict=weights or whole_weights(model), save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's empty model card; our manifest says more


def save_manifest(run, wanted, encoded, sources):
    """Write the manifest of a run beside its adapter."""
    facts = {k: v for k, v in asdict(run).items() if k != "adapter"}
    said = {name: str(rows) for name, rows in encoded.items()}
    common.write_manifest(
        run.adapter, "baize_nb.finetune.train (notebook 04)", sources=sources, **wanted, encoded=said, run=facts
    )
