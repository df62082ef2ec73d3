"""A chat with a model that was tuned on Baize text: prompt, history window, sampling, stop, streaming.

Knows: which turns go into the prompt, where a reply ends, what of it may be shown yet, and what is remembered.
Does not know: widgets, how a model is loaded, or how a token is chosen (sampling.py). Built in notebook 05.
The prompt is not written here: finetune.encode_prompt cuts it from the very text that training showed the model.
"""

import re
import threading
import time
from typing import NamedTuple

from . import profiles, transcript
from .errors import CourseError
from .finetune.tokens import encode_prompt
from .sampling import Decoder, Reader, penalise, pick

# Where a reply ends even if the stop token does not come: the model has begun to write the other's turn.
# A model that was not tuned on the format often drops a bar, as the first version's prompt did ([Human], [AI]).
STOPS = tuple(f"[{left}{who}{right}]" for who in ("Human", "AI") for left in ("|", "") for right in ("|", ""))
_TYPED_MARKER = re.compile(r"\[(?=\|?(?:human|ai)\|?\])", re.IGNORECASE)


class Reply(NamedTuple):
    """How a reply went. tokens: sampled; seconds: from the question to the end, reading the prompt included.

    end : "stop" (the model closed its turn), "limit" (`max_new_tokens`) or "stopped" (by a person, or by an error).
    """

    tokens: int
    seconds: float
    end: str

    @property
    def speed(self):
        """Tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)


class ChatSession:
    """One conversation with one model.

    model, tokenizer   : from models.load; bare or with a LoRA adapter.
    max_new_tokens     : tokens of one reply at most; None takes the profile's `reply_tokens`.
    temperature, top_p : as in `pick`; temperature 0 always takes the likeliest token.
    repetition_penalty : as in `penalise`; 1 is none.
    seed               : the same questions in the same order get the same replies; `clear` starts it again.
    context            : tokens of prompt and reply together; None takes all that the model can read.
    adapter            : False talks to the base model under a LoRA adapter, without loading it twice.

    `messages` holds the whole conversation; a reply carries its `end` beside its content. `last` is the newest `Reply`.
    """

    def __init__(
        self,
        model,
        tokenizer,
        max_new_tokens=None,
        temperature=1.0,
        top_p=0.95,
        repetition_penalty=1.0,
        seed=0,
        context=None,
        adapter=True,
    ):
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens or profiles.current().reply_tokens
        self.temperature, self.top_p, self.repetition_penalty = temperature, top_p, repetition_penalty
        self.seed = seed
        self.context = context or getattr(model.config, "max_position_embeddings", 2048)
        self._model, self._adapter = model, adapter
        self._stopping = threading.Event()
        self.clear()

    def clear(self):
        """Forget the conversation and start the random numbers again."""
        import torch

        self.messages, self.last = [], None
        self._generator = torch.Generator().manual_seed(self.seed)
        # A new reader too: keys that were computed in other steps differ in the last digit, and so would the dice.
        self._reader = Reader(self._model, self._adapter)

    def undo(self):
        """Take the last question and its reply back; return the question, or None where there was none."""
        if not self.messages:
            return None
        question = self.messages[-2]["content"]
        del self.messages[-2:]
        return question

    def stop(self):
        """Ask the reply that is being written to end after its current token. From any thread."""
        self._stopping.set()

    def prompt(self, text):
        """What the model will read before it answers `text`, as text: preamble, the turns that fit, an open AI turn."""
        return transcript.prompt(self._window(text), eos=self.tokenizer.eos_token)

    def answer(self, text):
        """The whole reply to `text` at once."""
        return "".join(self.stream(text))

    def stream(self, text):
        """Iterator over the reply to `text`, piece by piece, as it is written.

        The pieces together are the reply: no role marker, no half character, no white space around it. When the reply
        ends, question and reply join `messages`; so they do when the caller breaks off, with what was said so far
        (stopped before the first word, the question is forgotten).
        Raises CourseError at once where the message is empty or longer than the context.
        """
        ids = encode_prompt(self._window(text), self.tokenizer)
        self._stopping.clear()
        return self._stream(text.strip(), ids)

    def _stream(self, text, ids):
        """The generator behind `stream`. Whatever ends it, the exchange is kept whole: roles never fall out of step."""
        decoder, screen = Decoder(self.tokenizer), _Screen()
        special = set(self.tokenizer.all_special_ids)
        tokens, end, began = 0, "stopped", time.perf_counter()
        try:
            for token in self._sample(ids):
                tokens += 1
                if token in special:  # the stop token, or another that no answer can hold
                    end = "stop"
                    break
                if piece := screen.push(decoder.push(token)):
                    yield piece
                if screen.closed or self._stopping.is_set():
                    end = "stop" if screen.closed else "stopped"
                    break
            else:
                end = "limit"
        finally:
            self.last = Reply(tokens, time.perf_counter() - began, end)
            if screen.shown or end != "stopped":
                reply = {"role": "assistant", "content": screen.shown, "end": end}
                self.messages += [{"role": "user", "content": text}, reply]

    def _sample(self, ids):
        """Token ids, one at a time, `max_new_tokens` of them. ids: the prompt."""
        said = []
        while len(said) < self.max_new_tokens:
            logits = penalise(self._reader.logits(ids + said), said, self.repetition_penalty)
            if not said:  # after a short training the stop can come before the first word; an answer has one at least
                logits = logits.clone()
                logits[self.tokenizer.all_special_ids] = float("-inf")
            said.append(pick(logits, self.temperature, self.top_p, self._generator))
            yield said[-1]

    def _window(self, text):
        """The messages that go into the prompt for `text`; markers that somebody typed can't open a turn there."""
        if not text.strip():
            raise CourseError("The message is empty: there is nothing to answer. Write a question.")
        messages = [*_answered(self.messages), {"role": "user", "content": text.strip()}]
        messages = [{"role": m["role"], "content": _disarm(m["content"])} for m in messages]
        return window(messages, self.context - self.max_new_tokens, lambda m: len(encode_prompt(m, self.tokenizer)))


def window(messages, room, length):
    """The newest whole turns of `messages` that fit into `room` tokens. Built in notebook 05.

    messages : alternating, user first, a user message last.
    length   : function from such a list to the tokens of its prompt, preamble included; it is never cut.
    Raises CourseError where even the last message alone is too long: half a question would get an answer to another.
    """
    for start in range(0, len(messages), 2):
        if length(messages[start:]) <= room:
            return messages[start:]
    raise CourseError(
        f"The message is too long: its prompt has {length(messages[-1:])} tokens and there is room for {room} "
        "(context less max_new_tokens). Shorten the message, or give ChatSession a larger context."
    )


def _answered(messages):
    """Messages without the exchanges in which the model said nothing: training never showed it an empty turn."""
    pairs = zip(messages[::2], messages[1::2], strict=True)
    return [message for pair in pairs if pair[1]["content"] for message in pair]


def _disarm(text):
    """`[|AI|]` → `[ |AI|]`, for every way to write a marker. In the prompt only: the conversation keeps what was typed.

    Special tokens in the text need nothing here: encode_prompt cuts them into their letters.
    """
    return _TYPED_MARKER.sub("[ ", text)


def release(text):
    """(show, hold, closed) for reply text that is not on the screen yet. Built in notebook 05.

    show   : what is certain to belong to the reply.
    hold   : the tail that may be the start of a marker, and white space that may stand before one.
    closed : a whole marker was found; it and all that follows is gone.
    """
    found = min((text.find(stop) for stop in STOPS if stop in text), default=-1)
    if found >= 0:
        return text[:found].rstrip(), "", True
    start = next((i for i in range(len(text)) if any(stop.startswith(text[i:]) for stop in STOPS)), len(text))
    start = len(text[:start].rstrip())
    return text[:start], text[start:], False


class _Screen:
    """What of a reply may be shown. `shown`: all that was; `closed`: a marker ended the reply."""

    def __init__(self):
        self.shown, self._held, self.closed = "", "", False

    def push(self, text):
        """Take new text; return the part that can be shown now."""
        self._held += text
        if not self.shown:
            self._held = self._held.lstrip()  # training text has one space after the marker
        show, self._held, self.closed = release(self._held)
        self.shown += show
        return show
