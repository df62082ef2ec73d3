"""Dialogues as token ids, and which of them are learned.

Knows: the loss mask, cutting to a length, padding a batch. Does not know: models, or how a dialogue is written
(transcript.pieces does, for training and for chat alike).
"""

from typing import NamedTuple

from .. import transcript
from ..common import CourseError

IGNORE = -100  # the label that cross entropy leaves out


def encode(messages, tokenizer, max_length):
    """{"input_ids": [int], "labels": [int]} of one dialogue, at most `max_length` tokens. Built in notebook 04.

    A label is the token itself where the assistant speaks (its words and its stop token), IGNORE elsewhere. The mask
    goes by position: many tokenizers pad with the stop token, and a mask by token id would hide every stop.
    A dialogue that is too long loses whole exchanges from its end; where even the first is too long, it is cut at
    `max_length` and has no stop. Raises CourseError where the tokenizer has no stop token.
    """
    return _fit(messages, tokenizer, max_length)[0]


def encode_prompt(messages, tokenizer, preamble=transcript.PREAMBLE):
    """Token ids of the chat prompt: exactly what training showed the model before its next answer.

    messages end with a user message. The text is transcript.prompt, cut into tokens at the same places as in training.
    preamble: as in transcript.render; with another one than its own, the model reads what training never showed it.
    """
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a chat prompt must end with a user message")
    return _tokens(messages, tokenizer, preamble, open_turn=True)["input_ids"]


def _fit(messages, tokenizer, max_length):
    """(row, exchanges that were kept); 0 exchanges: even the first one had to be cut."""
    for exchanges in range(len(messages) // 2, 0, -1):
        row = _tokens(messages[: 2 * exchanges], tokenizer)
        if len(row["input_ids"]) <= max_length:
            return row, exchanges
    row = _tokens(messages[:2], tokenizer)
    return {name: values[:max_length] for name, values in row.items()}, 0


def _tokens(messages, tokenizer, preamble=transcript.PREAMBLE, open_turn=False):
    """One row, uncut. open_turn: end with the assistant's marker, ready for its answer."""
    stop = tokenizer.eos_token
    if stop is None:
        raise CourseError(
            f"The tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token, so the model could never learn "
            "to stop. Choose another base model or set tokenizer.eos_token."
        )
    ids = start(tokenizer)
    labels = [IGNORE] * len(ids)
    parts = transcript.pieces(messages, eos=stop, preamble=preamble)
    if open_turn:
        parts.append((transcript.AI, False))
    for text, learn in parts:
        words = text.removesuffix(stop) if learn else text
        # split_special_tokens: somebody who types the stop token gets its letters, not the token.
        piece = tokenizer(words, add_special_tokens=False, split_special_tokens=True).input_ids
        piece = piece + [tokenizer.eos_token_id] * learn
        ids += piece
        labels += piece if learn else [IGNORE] * len(piece)
    return {"input_ids": ids, "labels": labels}


def start(tokenizer):
    """[the begin-of-sequence token] where the tokenizer starts a text with it, as LLaMA's does; else []."""
    first = tokenizer("").input_ids[:1]
    return first if first and first[0] == tokenizer.bos_token_id else []


class Encoded(NamedTuple):
    """rows: what `encode` gives, for every dialogue that teaches something; the rest counts what was lost on the way.

    shortened: lost whole exchanges · cut: lost its stop token · dropped: had nothing left to learn
    """

    rows: list
    shortened: int
    cut: int
    dropped: int

    @property
    def tokens(self):
        """Tokens of all rows, without padding."""
        return sum(len(row["input_ids"]) for row in self.rows)

    def __str__(self):
        learned = sum(label != IGNORE for row in self.rows for label in row["labels"])
        losses = [(self.shortened, "lost their last exchanges"), (self.cut, "were cut and have no stop")]
        losses += [(self.dropped, "had nothing to learn and were left out")]
        said = "".join(f"; {number} {what}" for number, what in losses if number)
        return f"{len(self.rows)} dialogues, {self.tokens:,} tokens, {learned:,} of them learned{said}"


def encode_all(dialogues, tokenizer, max_length, loss_on="assistant"):
    """`Encoded` for a list of dialogues. Raises CourseError where nothing at all can be learned.

    loss_on : "assistant", or "all" to learn every token of the same rows, as Baize did.
    """
    rows, shortened, cut, dropped = [], 0, 0, 0
    for dialogue in dialogues:
        try:
            row, kept = _fit(dialogue.messages, tokenizer, max_length)
        except ValueError as error:
            raise CourseError(f"Dialogue {getattr(dialogue, 'id', '?')!r}: {error}. Mend or remove it.") from error
        if all(label == IGNORE for label in row["labels"]):
            dropped += 1
            continue
        if loss_on == "all":
            row["labels"] = list(row["input_ids"])
        rows.append(row)
        cut += kept == 0
        shortened += 0 < kept < len(dialogue.messages) // 2
    if not rows:
        raise CourseError(
            f"Nothing to learn: none of {len(dialogues)} dialogues has an answer within {max_length} tokens. "
            "Make a larger corpus (notebooks 02 and 03) or raise max_length in the profile."
        )
    return Encoded(rows, shortened, cut, dropped)


def collate(rows, pad_id):
    """A batch of tensors, padded on the right: input_ids, attention_mask, labels, each (rows, longest row).

    The attention mask goes by length, not by pad_id, for the reason given in `encode`.
    """
    import torch

    longest = max(len(row["input_ids"]) for row in rows)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        length = len(row["input_ids"])
        batch["input_ids"].append(row["input_ids"] + [pad_id] * (longest - length))
        batch["attention_mask"].append([1] * length + [0] * (longest - length))
        batch["labels"].append(row["labels"] + [IGNORE] * (longest - length))
    return {name: torch.tensor(values) for name, values in batch.items()}


def padding_share(lengths, batch_size, to=None):
    """Share of padding, 0 to 1, in batches of `batch_size` rows of these lengths, taken in the order given.

    to : pad every row to this length, as Baize did with 512; None pads to the longest row of each batch.
    """
    full = 0
    for i in range(0, len(lengths), batch_size):
        batch = lengths[i : i + batch_size]
        full += len(batch) * (to or max(batch))
    return 1 - sum(lengths) / full
