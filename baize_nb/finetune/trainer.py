"""transformers' Trainer with our loss, our held-out loss, and an order of batches that survives an interruption.

Knows: which of Trainer's methods to replace, and why; how several processes share a step. Does not know: settings.
"""

import torch
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from .. import common
from ..common import CourseError
from .loss import loss_sums, summed_loss
from .tokens import IGNORE, collate

SEED = 0


class ByLength(LengthGroupedSampler):
    """Dialogues of like length side by side, in an order that only the seed and the epoch decide.

    Trainer's own draws from the global random numbers, so a run resumed in its second epoch would meet other batches.
    Every process needs as many batches as the others: the order is filled up to a multiple of `multiple` with the
    number of a blank row, the one after the last dialogue. (accelerate would train some dialogues twice instead.)
    """

    epoch = 0

    def __init__(self, batch_size, dataset, multiple=1):
        super().__init__(batch_size, dataset=dataset)
        self.blanks = -len(dataset) % multiple

    def set_epoch(self, epoch):
        """Trainer calls this before each epoch."""
        self.epoch = epoch

    def __len__(self):
        return len(self.lengths) + self.blanks

    def __iter__(self):
        self.generator = torch.Generator().manual_seed(SEED + self.epoch)
        yield from super().__iter__()
        yield from [len(self.lengths)] * self.blanks


class AssistantTrainer(Trainer):
    """transformers' Trainer with this module's loss, for training and for held-out data. Built in notebook 04.

    Trainer counts the learned tokens of all micro-batches of a step, in all processes, and divides by that number, so
    a step's gradient does not depend on how its dialogues were put into micro-batches and processes.
    """

    def __init__(self, *args, train_dataset, pad_id, **kwargs):
        self.rows, self.pad_id = train_dataset, pad_id
        self.blank = {"input_ids": [pad_id], "labels": [IGNORE]}
        super().__init__(
            *args,
            train_dataset=[*train_dataset, self.blank],
            data_collator=lambda rows: collate(rows, pad_id),
            compute_loss_func=summed_loss,  # never called: it tells Trainer to count the learned tokens of a step
            **kwargs,
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Sum of a micro-batch's losses over the learned tokens of the whole step.

        DDP takes the mean of the gradients of all processes; times their number it is the sum.
        """
        return summed_loss(model, inputs) / num_items_in_batch * self.accelerator.num_processes

    def _get_train_sampler(self, train_dataset=None):
        """As Trainer's for group_by_length, in an order of its own for each epoch."""
        each, processes = self.args.train_batch_size, self.args.world_size
        size = each * self.args.gradient_accumulation_steps * processes
        return ByLength(size, self.rows, multiple=each * processes if processes > 1 else 1)

    def _save_rng_state(self, output_dir):
        """As Trainer's; a checkpoint counts as whole only after every process has written its part."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, *args, **kwargs):
        """As Trainer's; a full disk is said in plain words."""
        try:
            super()._save_checkpoint(*args, **kwargs)
        except Exception as error:  # torch and safetensors report a full disk by error classes of their own
            raise CourseError(
                f"Could not write a checkpoint to {common.show(self.args.output_dir)} ({error}). "
                "Free some space and run this again: it goes on from the last whole checkpoint."
            ) from error

    def evaluate(self, *args, **kwargs):
        """Held-out loss of the whole evaluation set, every token weighing the same; Trainer's own weighs batches.

        Each process looks at its share of the set, blank rows where it can't be even: processes that share the weights
        (FSDP) wait for each other in every forward pass.
        """
        rows = [*self.eval_dataset, *[self.blank] * (-len(self.eval_dataset) % self.args.world_size)]
        share = rows[self.args.process_index :: self.args.world_size]
        total, count = loss_sums(self.model, share, self.pad_id)
        if self.args.world_size > 1:
            sums = torch.tensor([total, count], dtype=torch.float64, device=self.args.device)
            total, count = self.accelerator.reduce(sums, "sum").tolist()
        metrics = {"eval_loss": total / count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
