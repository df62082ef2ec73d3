"""transformers' Trainer with our loss, our held-out loss, and an order of batches that survives an interruption.

Knows: which of Trainer's methods to replace, and why. Does not know: settings, files.
"""

import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from .. import artifacts
from ..errors import CourseError
from .loss import learned, projecting_only, rows_loss
from .tokens import collate

SEED = 0


class ByLength(LengthGroupedSampler):
    """Dialogues of like length side by side, in an order that only the seed and the epoch decide.

    Trainer's own draws from the global random numbers, so a run resumed in its second epoch would meet other batches.
    """

    epoch = 0

    def set_epoch(self, epoch):
        """Trainer calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self):
        self.generator = torch.Generator().manual_seed(SEED + self.epoch)
        return super().__iter__()


class AssistantTrainer(Trainer):
    """transformers' Trainer with this module's loss, for training and for held-out data. Built in notebook 04.

    Trainer counts the learned tokens of all micro-batches of a step and divides by that number, so a step's gradient
    does not depend on how its dialogues were put into micro-batches.
    """

    def __init__(self, *args, pad_id, **kwargs):
        super().__init__(
            *args, compute_loss_func=_step_loss, data_collator=lambda rows: collate(rows, pad_id), **kwargs
        )
        self.pad_id = pad_id

    def compute_loss(self, model, inputs, *args, **kwargs):
        """As Trainer's, with the projection restricted to what is learned."""
        keep = learned(inputs["labels"])
        with projecting_only(self.accelerator.unwrap_model(model), keep):
            return super().compute_loss(model, {**inputs, "use_cache": False}, *args, **kwargs)

    def _get_train_sampler(self, train_dataset=None):
        """As Trainer's for group_by_length, in an order of its own for each epoch."""
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return ByLength(size, dataset=train_dataset or self.train_dataset)

    def _save_checkpoint(self, *args, **kwargs):
        """As Trainer's; a full disk is said in plain words."""
        try:
            super()._save_checkpoint(*args, **kwargs)
        except Exception as error:  # torch and safetensors report a full disk by error classes of their own
            raise CourseError(
                f"Could not write a checkpoint to {artifacts.show(self.args.output_dir)} ({error}). "
                "Free some space and run this again: it goes on from the last whole checkpoint."
            ) from error

    def evaluate(self, *args, **kwargs):
        """Held-out loss of the whole evaluation set, every token weighing the same; Trainer's own weighs batches."""
        metrics = {"eval_loss": rows_loss(self.model, self.eval_dataset, self.pad_id)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _step_loss(outputs, labels, num_items_in_batch=None):
    """Sum of cross entropies of a micro-batch over the number of learned tokens in the whole step."""
    targets = labels[:, 1:][learned(labels)]
    total = cross_entropy(outputs.logits.float(), targets, reduction="sum")
    return total / (len(targets) if num_items_in_batch is None else num_items_in_batch)
