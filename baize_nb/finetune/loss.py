"""The loss: mean cross entropy, in nats per token, over the tokens that the assistant has to say.

Knows: how to send only those positions through the vocabulary projection. Does not know: training, files.
The projection (hidden states → one score for each of 49,152 tokens) is a fifth of the embedded model's multiplications,
and its result is thrown away wherever a label is masked.
"""

from contextlib import contextmanager

import torch
from torch.nn.functional import cross_entropy

from .tokens import IGNORE, collate, encode_all


def learned(labels):
    """(rows, length - 1) mask: True where the *next* token is learned. labels: (rows, length)."""
    return labels[:, 1:] != IGNORE


@contextmanager
def projecting_only(model, keep):
    """Inside, the model's logits have shape (number of True in keep, vocabulary): those positions only.

    A hook on the projection rather than a call of the layers below it, so that the model is still called as a whole,
    with whatever Trainer has put around it (autocast, for one).
    """
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0][:, :-1][keep],))
    try:
        yield
    finally:
        hook.remove()


def rows_loss(model, rows, pad_id, batch_size=4):
    """Mean loss of a model over rows of `encode`, in nats per learned token; the model's mode is left as it was."""
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))
    for i in range(0, len(rows), batch_size):
        batch = {name: tensor.to(model.device) for name, tensor in collate(rows[i : i + batch_size], pad_id).items()}
        labels = batch.pop("labels")
        keep = learned(labels)
        with torch.no_grad(), projecting_only(model, keep):
            logits = model(**batch, use_cache=False).logits
        total += cross_entropy(logits.float(), labels[:, 1:][keep], reduction="sum").item()
        count += int(keep.sum())
    model.train(was_training)
    return total / count


def heldout_loss(model, dialogues, tokenizer, max_length):
    """Mean loss over the assistant's tokens of dialogues that were not trained on, in nats per token.

    exp of it is the perplexity. Raises CourseError where nothing can be learned from the dialogues.
    """
    return rows_loss(model, encode_all(dialogues, tokenizer, max_length).rows, tokenizer.eos_token_id)
