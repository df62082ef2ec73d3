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
    with whatever Trainer has put around it (autocast, or the sharing of gradients among processes).
    """
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0][:, :-1][keep],))
    try:
        yield
    finally:
        hook.remove()


def summed_loss(model, batch):
    """Sum of the cross entropies of a batch of `collate`, over its learned tokens, in nats; with its gradient.

    model : on whose device the batch lies; also as Trainer has wrapped it.
    No attention mask is given: a causal model sees nothing to the right of a token, and all padding lies there.
    Without one, attention leaves out the half of its work that the mask would hide anyway.
    """
    keep = learned(batch["labels"])
    bare = getattr(model, "module", model)  # without DDP's wrapping
    with projecting_only(bare, keep):
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    return cross_entropy(logits.float(), batch["labels"][:, 1:][keep], reduction="sum")


def loss_sums(model, rows, pad_id, batch_size=2):
    """(sum of losses in nats, number of learned tokens) over rows of `encode`; the model's mode is left as it was."""
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))
    for i in range(0, len(rows), batch_size):
        batch = {name: tensor.to(model.device) for name, tensor in collate(rows[i : i + batch_size], pad_id).items()}
        with torch.no_grad():
            total += summed_loss(model, batch).item()
        count += int(learned(batch["labels"]).sum())
    model.train(was_training)
    return total, count


def rows_loss(model, rows, pad_id, batch_size=2):
    """Mean loss of a model over rows of `encode`, in nats per learned token; the model's mode is left as it was."""
    total, count = loss_sums(model, rows, pad_id, batch_size)
    return total / count


def heldout_loss(model, dialogues, tokenizer, max_length):
    """Mean loss over the assistant's tokens of dialogues that were not trained on, in nats per token.

    exp of it is the perplexity. Raises CourseError where nothing can be learned from the dialogues.
    """
    return rows_loss(model, encode_all(dialogues, tokenizer, max_length).rows, tokenizer.eos_token_id)
