"""Dialogues as token ids: the loss mask, the chat prompt, batches; and the same text as a chat template for others.

How a dialogue is written stands in transcript.pieces, for training and for chat alike.
"""

import copy
import weakref
from collections.abc import Sequence
from typing import NamedTuple

from .. import transcript
from ..common import CourseError

IGNORE = -100  # the label that cross entropy leaves out


def encode(messages: Sequence[dict], tokenizer, max_length: int) -> dict:
    """Turn one dialogue into {"input_ids": [int], "labels": [int]} of at most `max_length` tokens.

    A label is the token itself where the assistant speaks (its words and its stop token), IGNORE elsewhere. The mask
    goes by position: many tokenizers pad with the stop token, and a mask by token id would hide every stop.
    A dialogue that is too long loses whole exchanges from its end; where even the first is too long, it is cut at
    `max_length` and has no stop. Raises CourseError where the tokenizer has no stop token.
    """
    return _shortened(messages, tokenizer, max_length)[0]


def encode_prompt(messages: Sequence[dict], tokenizer, preamble: str = transcript.PREAMBLE) -> list[int]:
    """Return the token ids of the chat prompt: exactly what training showed the model before its next answer.

    messages end with a user message. preamble: as in transcript.render; another one was never shown in training.
    """
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a chat prompt must end with a user message")
    return _tokens(messages, tokenizer, preamble, open_turn=True)["input_ids"]


def _shortened(messages, tokenizer, max_length):
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
    ids = _start(tokenizer)
    labels = [IGNORE] * len(ids)
    parts = transcript.pieces(messages, eos=stop, preamble=preamble)
    if open_turn:
        parts.append((transcript.AI, False))
    for text, learn in parts:
        piece = encode_text(text.removesuffix(stop) if learn else text, tokenizer) + [tokenizer.eos_token_id] * learn
        ids += piece
        labels += piece if learn else [IGNORE] * len(piece)
    return {"input_ids": ids, "labels": labels}


_SPLITTING = weakref.WeakKeyDictionary()  # tokenizer: its copy that cuts special tokens into their letters


def encode_text(text: str, tokenizer, special: bool = False) -> list[int]:
    """Encode text; who types the stop token gets its letters, not the token. Safe in many threads at a time.

    special : add the tokens that the tokenizer puts around a text.
    """
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
    """rows: what `encode` gives, for every dialogue that teaches something; the rest counts what was lost on the way.

    shortened: lost whole exchanges · cut: lost its stop token · dropped: had nothing left to learn
    """

    rows: list[dict]
    shortened: int
    cut: int
    dropped: int

    @property
    def tokens(self) -> int:
        """Count the tokens of all rows, without padding."""
        return sum(len(row["input_ids"]) for row in self.rows)

    def __str__(self):
        learned = sum(label != IGNORE for row in self.rows for label in row["labels"])
        losses = [(self.shortened, "lost their last exchanges"), (self.cut, "were cut and have no stop")]
        losses += [(self.dropped, "had nothing to learn and were left out")]
        said = "".join(f"; {number} {what}" for number, what in losses if number)
        return f"{len(self.rows)} dialogues, {self.tokens:,} tokens, {learned:,} of them learned{said}"


def encode_all(dialogues: Sequence, tokenizer, max_length: int, loss_on: str = "assistant") -> Encoded:
    """Encode a list of dialogues. Raises CourseError where nothing at all can be learned.

    loss_on : "assistant", or "all" to learn every token of the same rows, as Baize did.
    """
    rows, shortened, cut, dropped = [], 0, 0, 0
    for dialogue in dialogues:
        try:
            row, kept = _shortened(dialogue.messages, tokenizer, max_length)
        except ValueError as error:
            raise CourseError(f"Dialogue {getattr(dialogue, 'id', '?')!r}: {error}. Fix or remove it.") from error
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


def collate(rows: Sequence[dict], pad_id: int) -> dict:
    """Pad rows on the right into a batch of tensors: input_ids, attention_mask, labels, each (rows, longest row).

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


def padding_share(lengths: Sequence[int], batch_size: int, to: int | None = None) -> float:
    """Return the share of padding, 0 to 1, in batches of `batch_size` rows of these lengths, in the order given.

    to : pad every row to this length, as Baize did with 512; None pads to the longest row of each batch.
    """
    full = 0
    for i in range(0, len(lengths), batch_size):
        batch = lengths[i : i + batch_size]
        full += len(batch) * (to or max(batch))
    return 1 - sum(lengths) / full


# Only `replace` as a method, `+` and `if`: every Jinja that these programs carry knows them. The marker that somebody
# typed gets its backslash as transcript does it; one with a backslash already gets a second, so that reading the
# text again gives the first. With two or more it is left alone: it opens no turn as it is.
_ESCAPES = "".join(
    f".replace({typed!r}, {written!r})"
    for name in ("Human", "AI")
    for typed, written in ((f"[\\|{name}|]", f"[\\\\|{name}|]"), (f"[|{name}|]", f"[\\|{name}|]"))
)
_PREAMBLE = """\
{%- if messages[0]['role'] == 'system' -%}
    {{- messages[0]['content'] + '\\n' if messages[0]['content'] else '' -}}
{%- else -%}
    {{- PREAMBLE -}}
{%- endif -%}
"""
_TURNS = """\
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {{- 'HUMAN ' + message['content']ESCAPES + '\\n' -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- 'AI ' + message['content']ESCAPES + eos_token + '\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- 'AI' -}}
{%- endif -%}
"""


def chat_template(tokenizer) -> str:
    """Say transcript.prompt in Jinja, for `tokenizer.chat_template` and a GGUF file's metadata.

    transformers, llama.cpp and LM Studio read such a template from the model's own files; Ollama has a language of its
    own, whose words stand in the model card. A system message takes the place of the preamble (an empty one: none).
    What a template can't do: keep a typed special token from being one, as finetune.encode_prompt does.
    """
    begin = "{{- bos_token -}}\n" if _start(tokenizer) else ""
    turns = _TURNS.replace("HUMAN", transcript.HUMAN).replace("'AI", f"'{transcript.AI}")
    return begin + _PREAMBLE.replace("PREAMBLE", repr(transcript.PREAMBLE)) + turns.replace("ESCAPES", _ESCAPES)
