"""Turns → token ids in Baize's format: the text that training showed the model, up to its next word.

Knows: a tokenizer, and how typed text is kept from passing for a role. Does not know: models, endpoints, history.
The format is not written here: transcript and finetune.encode_prompt have it, for training and for chat alike.
"""

import re

from .. import transcript
from ..finetune.tokens import encode_prompt

_TYPED_MARKER = re.compile(r"\[(?=\|?(?:human|ai)\|?\])", re.IGNORECASE)


class BaizePrompt:
    """Writes prompts for one tokenizer.

    closes : whether training closed every answer with the stop token, as this course's does. The released Baize models
             have none inside a dialogue, and their text was cut into tokens in one piece.
    """

    def __init__(self, tokenizer, closes=True):
        self.tokenizer, self.closes = tokenizer, closes

    def text(self, messages, preamble):
        """The prompt as text. messages end with a user message; preamble stands before them."""
        return transcript.prompt(messages, self.tokenizer.eos_token if self.closes else "", preamble)

    def encode(self, messages, preamble):
        """The prompt as token ids. Special tokens that somebody typed are cut into their letters."""
        if self.closes:
            return encode_prompt(messages, self.tokenizer, preamble)
        return self.tokenizer(self.text(messages, preamble), split_special_tokens=True).input_ids

    def length(self, messages, preamble):
        """Tokens of the prompt, and of the reply to it where messages end with one."""
        if messages[-1]["role"] == "user":
            return len(self.encode(messages, preamble))
        reply = self.tokenizer(" " + messages[-1]["content"], add_special_tokens=False, split_special_tokens=True)
        return len(self.encode(messages[:-1], preamble)) + len(reply.input_ids) + self.closes


def disarm(messages):
    """`[|AI|]` → `[ |AI|]`, for every way to write a marker. In the prompt only: the conversation keeps what was typed.

    Special tokens in the text need nothing here: they are cut into their letters.
    """
    return [{"role": m["role"], "content": _TYPED_MARKER.sub("[ ", m["content"])} for m in messages]
