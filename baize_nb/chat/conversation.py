"""The face of every chat session: ask, stream, stop, ask again, edit, take back, keep.

Knows: exchanges, and what becomes of them when a reply ends, breaks off or fails. Does not know: who writes the reply.
Built in notebook 05.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from .. import profiles, transcript
from ..common import CourseError
from . import history
from .screen import STOPS, Screen


class Reply(NamedTuple):
    """How a reply went. tokens: sampled; seconds: from the question to the end, reading the prompt included.

    end   : "stop" (the model closed its turn by its stop token), "marker" (it began to write the other's turn), "limit"
            (`max_new_tokens`) or "stopped" (by a person, or by an error).
    first : seconds to the first token; None where none came.
    """

    tokens: int
    seconds: float
    end: str
    first: float | None = None

    @property
    def speed(self):
        """Tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)


class Conversation:
    """What ChatSession and EndpointSession share. All settings are plain attributes and may be changed at any time.

    max_new_tokens     : tokens of one reply at most; None takes the profile's `reply_tokens`.
    temperature, top_p : as in `sampling.pick`; temperature 0 always takes the likeliest token.
    repetition_penalty : above 1, what was just said becomes less likely; 1 is none.
    seed               : the same questions in the same order get the same replies; `clear` starts it again.
    context            : tokens of prompt and reply together.
    guard              : the text before the first turn, which tells the model how to behave. None is
                         transcript.PREAMBLE, the one of training; "" leaves it out.

    `messages` holds the whole conversation; a reply carries its `end` beside its content. `last` is the newest `Reply`.
    A subclass has `_read(messages)` (what of them it reads), `_length(messages)` (tokens of their prompt) and
    `_write(messages)` (an iterator of (text, tokens), where the text None says that the model closed its turn).
    """

    stops = STOPS

    def __init__(self, max_new_tokens, temperature, top_p, repetition_penalty, seed, context, guard):
        self.max_new_tokens = max_new_tokens or profiles.current().reply_tokens
        self.temperature, self.top_p, self.repetition_penalty = temperature, top_p, repetition_penalty
        self.seed, self.context, self.guard = seed, context, guard
        self._stopping = threading.Event()
        Conversation.clear(self)  # not a subclass's own: what that forgets is not there yet

    def clear(self):
        """Forget the conversation and start the random numbers again."""
        self.messages, self.last, self._draws = [], None, 0

    def undo(self):
        """Take the last question and its reply back; return the question, or None where there was none."""
        if not self.messages:
            return None
        question = self.messages[-2]["content"]
        del self.messages[-2:]
        return question

    def stop(self):
        """Ask the reply that is being written to end, also while the prompt is still being read. From any thread."""
        self._stopping.set()

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
        return self._ask(text, len(self.messages) // 2)

    def regenerate(self):
        """Iterator over another reply to the last question, drawn anew; it takes the old one's place when it ends.

        Broken off before its first word, or failed, the old exchange stands. Raises CourseError where there is none.
        """
        return self.edit(None)

    def edit(self, text, turn=-1):
        """Iterator over the reply to `text` in place of the question of `turn`; what came after it is dropped.

        turn : 0 is the first question, -1 the last.
        Broken off before its first word, or failed, the conversation stays as it was. Raises CourseError at once where
        there is no such turn, or the text is empty or too long.
        """
        turns = len(self.messages) // 2
        if not -turns <= turn < turns:
            raise CourseError(f"There is no question number {turn}: the conversation has {turns}. Ask one first.")
        turn %= turns
        return self._ask(self.messages[2 * turn]["content"] if text is None else text, turn)

    @property
    def used(self):
        """(tokens, context): the conversation so far as the model would read it, and what it can read at most."""
        messages = self._read(history.answered(self.messages))
        sizes = (self._length(messages[start:]) for start in range(0, len(messages), 2))
        return next((size for size in sizes if size <= self.context), 0), self.context

    def save(self, path):
        """Write the conversation to a JSONL file, whole or not at all; in its first line the settings, for the record.

        Raises CourseError where it can't be written.
        """
        history.save(path, self.messages, self.settings())

    def load(self, path):
        """Go on with a conversation that was saved. The settings stay those of this session.

        Raises CourseError, with file and line, where the file holds none; this conversation is then unchanged.
        """
        messages = history.load(path)
        self.clear()
        self.messages, self._draws = messages, len(messages) // 2

    def settings(self):
        """The settings that shape a reply, as a dictionary that json can write."""
        names = ("max_new_tokens", "temperature", "top_p", "repetition_penalty", "seed", "context")
        return {name: getattr(self, name) for name in names} | {"guard": self._preamble}

    @property
    def _preamble(self):
        """The guard as text that ends its line."""
        guard = transcript.PREAMBLE if self.guard is None else self.guard
        return guard.rstrip("\n") + "\n" if guard.strip() else ""

    @property
    def _dice(self):
        """The random seed of this reply: another one for each, the same ones in each conversation."""
        return (1_000_003 * self.seed + self._draws) % 2**31

    def _ask(self, text, turn):
        """Check the question and return the iterator over its reply, which will stand at `turn`."""
        if not text.strip():
            raise CourseError("The message is empty: there is nothing to answer. Write a question.")
        messages = self._window(self.messages[: 2 * turn], text)
        self._stopping.clear()
        return self._converse(text.strip(), turn, messages)

    def _window(self, messages, text):
        """What the model reads of the turns before `text`, and `text`."""
        messages = [*history.answered(messages), {"role": "user", "content": text.strip()}]
        return history.window(self._read(messages), self.context - self.max_new_tokens, self._length)

    def _converse(self, question, turn, messages):
        """The generator behind `stream`. Whatever ends it, exchanges stay whole: roles never fall out of step."""
        self._draws += 1
        draft, words, lost = _Draft(Screen(self.stops)), self._write(messages), False
        try:
            yield from self._show(words, draft)
        except Exception:
            lost = 2 * turn < len(self.messages)  # an older reply is better than half a new one
            raise
        finally:
            words.close()
            self.last = draft.reply()
            if not lost and (draft.screen.shown or draft.end != "stopped"):
                reply = {"role": "assistant", "content": draft.screen.shown, "end": draft.end}
                self.messages[2 * turn :] = [{"role": "user", "content": question}, reply]

    def _show(self, words, draft):
        """Pass on what may be shown, and note in `draft` how it goes."""
        for text, tokens in words:
            draft.count(tokens)
            if text is None:
                draft.end = "stop"
                return
            if piece := draft.screen.push(text):
                yield piece
            if draft.screen.closed or self._stopping.is_set():
                draft.end = "marker" if draft.screen.closed else "stopped"
                return
        draft.end = "stopped" if self._stopping.is_set() else "limit"


@dataclass
class _Draft:
    """A reply while it is written."""

    screen: Screen
    tokens: int = 0
    end: str = "stopped"
    first: float | None = None
    began: float = field(default_factory=time.perf_counter)

    def count(self, tokens):
        self.tokens += tokens
        if self.first is None:
            self.first = time.perf_counter() - self.began

    def reply(self):
        return Reply(self.tokens, time.perf_counter() - self.began, self.end, self.first)
