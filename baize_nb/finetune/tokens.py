"""Dialogues as token ids: the loss mask, the chat prompt, batches; and the same text as a chat template for others."""

import copy
import weakref
from collections.abc import Sequence
from typing import NamedTuple

from .. import transcript
from ..common import CourseError

IGNORE = -100  # the label that cross entropy leaves out


def encode(messages: Sequence[dict], tokenizer, max_length: int) -> dict:
    """Turn one dialogue into {"input_ids": [int], "labels": [int]} of at most `max_length` tokens.

    A label is the token itself where the assistant speaks (its words and, unless it was trimmed, its stop), IGNORE
    elsewhere. The mask goes by position: many tokenizers pad with the stop token, and a mask by id would hide it.
    A dialogue that is too long loses whole exchanges from its end; where even the first is too long, it is cut at
    `max_length` and has no stop. Raises CourseError where the tokenizer has no stop token.
    """
    for exchanges in range(max(1, len(messages) // 2), 0, -1):
        row = _tokens(messages[: 2 * exchanges], tokenizer)
        if len(row["input_ids"]) <= max_length:
            break
    return {name: values[:max_length] for name, values in row.items()}


def encode_prompt(messages: Sequence[dict], tokenizer, preamble: str = transcript.PREAMBLE) -> list[int]:
    """Return the token ids of the chat prompt: exactly what training showed the model before its next answer."""
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a chat prompt must end with a user message")
    return _tokens(messages, tokenizer, preamble)["input_ids"]


def _tokens(messages, tokenizer, preamble=transcript.PREAMBLE):
    """One row, uncut; after a user's message it ends with the assistant's marker. The text: transcript.pieces."""
    stop = tokenizer.eos_token
    if stop is None:
        raise CourseError(
            f"The tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token, so a model could never learn to "
            "stop. Choose another base model."
        )
    parts = transcript.pieces(messages, eos=stop, preamble=preamble)
    if len(messages) % 2:
        parts.append((transcript.AI, False))
    ids = _start(tokenizer)
    labels = [IGNORE] * len(ids)
    for text, learn in parts:
        piece = [tokenizer.eos_token_id] if text == stop else encode_text(text, tokenizer)
        ids += piece
        labels += piece if learn else [IGNORE] * len(piece)
    return {"input_ids": ids, "labels": labels}


_SPLITTING = weakref.WeakKeyDictionary()  # tokenizer: its copy that cuts special tokens into their letters


def encode_text(text: str, tokenizer, special: bool = False) -> list[int]:
    """Encode text; who types the stop token gets its letters, not the token. Safe in many threads at a time."""
    if not hasattr(tokenizer, "backend_tokenizer"):  # one in Python
        return tokenizer(text, add_special_tokens=special, split_special_tokens=True).input_ids
    # `split_special_tokens` switches a flag that all threads share: another thread would read what this one has
    # switched, and take a typed stop token for the real one, or find the tokenizer "Already borrowed".
    if tokenizer not in _SPLITTING:
        splitting = copy.deepcopy(tokenizer.backend_tokenizer)
        splitting.encode_special_tokens = True
        splitting.no_truncation()
        splitting.no_padding()
        _SPLITTING[tokenizer] = splitting
    return _SPLITTING[tokenizer].encode(text, add_special_tokens=special).ids


def _start(tokenizer):
    """[the begin-of-sequence token] where the tokenizer starts a text with it, as LLaMA's does; else []."""
    first = encode_text("", tokenizer, special=True)[:1]
    return first if first and first[0] == tokenizer.bos_token_id else []


class Encoded(NamedTuple):
    """Rows of `encode`, and how many dialogues lost their ends, or had nothing to learn and gave no row."""

    rows: list[dict]
    shortened: int
    dropped: int

    def __str__(self):
        labels = [label for row in self.rows for label in row["labels"]]
        learned = len(labels) - labels.count(IGNORE)
        said = f"{len(self.rows)} dialogues, {len(labels):,} tokens, {learned:,} of them learned"
        return f"{said}; {self.shortened} shortened, {self.dropped} left out"


def encode_all(dialogues: Sequence, tokenizer, max_length: int, loss_on: str = "assistant") -> Encoded:
    """Encode dialogues. loss_on : "assistant", or "all" to learn every token of the same rows, as Baize did."""
    rows, shortened = [], 0
    for dialogue in dialogues:
        try:
            row = encode(dialogue.messages, tokenizer, max_length)
        except ValueError as error:
            raise CourseError(f"Dialogue {getattr(dialogue, 'id', '?')!r}: {error}. Fix or remove it.") from error
        if all(label == IGNORE for label in row["labels"]):
            continue
        shortened += row["input_ids"].count(tokenizer.eos_token_id) < len(dialogue.messages) // 2
        if loss_on == "all":
            row["labels"] = list(row["input_ids"])
        rows.append(row)
    if not rows:
        raise CourseError(
            f"Nothing to learn: none of {len(dialogues)} dialogues has an answer within {max_length} tokens. "
            "Make a larger corpus, or raise max_length in the profile."
        )
    return Encoded(rows, shortened, len(dialogues) - len(rows))


def collate(rows: Sequence[dict], pad_id: int) -> dict:
    """Pad rows on the right into a batch of tensors: input_ids, attention_mask, labels, each (rows, longest row)."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    mask = [torch.ones_like(one) for one in ids]  # by length, not by pad_id, for the reason given in `encode`
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence(mask, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
    }


# A marker that somebody typed gets its backslash, as transcript does it; one with a backslash already gets a second, so
# that reading the text again gives the first. With two or more it is left alone: it opens no turn as it is.
_QUOTED = "".join(
    rf".replace('[\\|{name}|]', '[\\\\|{name}|]').replace('[|{name}|]', '[\\|{name}|]')" for name in ("Human", "AI")
)
# Only `replace` as a method, `+` and `if`: every Jinja that these programs carry knows them.
_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%} {{- <preamble> -}}
{%- elif messages[0]['content'] -%} {{- messages[0]['content'] + '\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%} {{- '<human> ' + message['content']<quoted> + '\\n' -}}
    {%- elif message['role'] == 'assistant' -%} {{- '<ai> ' + message['content']<quoted> + eos_token + '\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%} {{- '<ai>' -}} {%- endif -%}
"""


def chat_template(tokenizer) -> str:
    """Say transcript.prompt in Jinja, for `tokenizer.chat_template` and a GGUF file's metadata.

    A system message takes the place of the preamble (an empty one: none). What a template can't do: keep a typed
    special token from being one, as encode_prompt does.
    """
    text = _TEMPLATE.replace("<preamble>", repr(transcript.PREAMBLE)).replace("<quoted>", _QUOTED)
    text = text.replace("<human>", transcript.HUMAN).replace("<ai>", transcript.AI)
    return ("{{- bos_token -}}\n" if _start(tokenizer) else "") + text
