"""Chat sessions: what a model reads of a conversation, how its reply streams, what stops it, what is remembered."""

import asyncio
import contextlib
import json
import queue
import re
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import openai

from . import common, profiles, transcript
from .answers import read_content, read_finish
from .common import CourseError
from .faults import describe, explained
from .finetune.tokens import encode_prompt, encode_text
from .text import remove_thoughts

# Where a reply ends even if the stop token does not come: the model has begun to write the other's turn. One that was
# not tuned on the format often drops a bar, as the first version's prompt did ([Human], [AI]).
STOPS = tuple(f"[{left}{who}{right}]" for who in ("Human", "AI") for left in ("|", "") for right in ("|", ""))
_LINK = re.compile(r"\[(?:Human|AI)\]\(")  # Markdown: [AI](https://…) is a link, no marker
FILTERED = object()  # what `_write` yields in place of text where an endpoint's filter cut the reply


def release(text: str, stops: tuple = STOPS, ended: bool = False) -> tuple[str, str, bool]:
    """Split reply text that is not on the screen yet into (show, hold, closed).

    show   : what is certain to belong to the reply.
    hold   : the tail that may be the start of a marker or of a link, and white space that may stand before one.
    closed : a whole marker was found; it and all that follows is gone.
    ended  : nothing follows, so a marker at the very end is one.
    """
    masked = _LINK.sub(lambda link: "." * len(link[0]), text)
    found = [(masked.find(stop), stop) for stop in stops if stop in masked]
    start, stop = min(found, default=(len(text), ""))
    may_be_link = "|" not in stop and start + len(stop) == len(text) and not ended
    if stop and not may_be_link:
        return text[:start].rstrip(), "", True
    if not stop:
        tails = (i for i in range(len(text)) if any(stop.startswith(masked[i:]) for stop in stops))
        start = next(tails, len(text))
    start = len(text[:start].rstrip())
    return text[:start], text[start:], False


class ReplyStats(NamedTuple):
    """How a reply went.

    end : "stop" (the model closed its turn), "marker" (it began to write the other's turn), "limit"
          (`max_new_tokens`), "filter" (the endpoint's) or "stopped" (by a person, or by an error).
    """

    tokens: int
    seconds: float
    end: str
    first: float | None = None  # seconds to the first token

    @property
    def speed(self) -> float:  # tokens per second
        return self.tokens / max(self.seconds, 1e-9)


_TYPED_MARKER = re.compile(r"\[(?=\|?(?:human|ai)\|?\])", re.IGNORECASE)
_WRITING = "A reply is being written in this conversation. Wait for its end, or stop it; then ask."


@dataclass(eq=False, kw_only=True)
class Conversation:
    """What ChatSession and EndpointSession share. Its settings may be changed at any time.

    `messages` holds the whole conversation, each reply with its `end`; `last` the newest `ReplyStats`. A subclass has
    `_write(messages)`: an iterator of (text, tokens), where None as text says that the model closed its turn.
    """

    max_new_tokens: int | None = None  # of one reply; None takes the profile's `reply_tokens`
    temperature: float = 1.0  # this and the next two: as in decoding.py
    top_p: float = 0.95
    repetition_penalty: float = 1.0
    seed: int = 0  # the same questions in the same order get the same replies; `clear` starts it again
    context: int = 2048  # tokens of prompt and reply together
    guard: str | None = None  # the text before the first turn; None is transcript.PREAMBLE, the one of training

    tokenizer = None  # without one: a chat model of any kind behind an endpoint
    own_format = False  # whether the tokenizer's chat template is used in place of the Baize format
    closes = True  # whether the stop token ends an answer in the prompt
    stops = STOPS  # none for a model of another format: to it a marker is a word like any other
    _about = ()  # settings that name the model

    def __post_init__(self):
        self.max_new_tokens = self.max_new_tokens or profiles.current().reply_tokens
        self._stopping, self._writing = threading.Event(), threading.Lock()
        self._writer, self._reply = None, lambda: None  # the thread that reads a reply; a weak reference to the reply
        self.clear()

    def clear(self) -> None:
        """Forget the conversation, and start the random numbers again; a reply that is being written ends."""
        self.stop()
        self._refuse_while_writing(seconds=10)
        self.messages, self.last, self._drawn = [], None, 0

    def undo(self) -> str | None:
        """Take the last question and its reply back; return the question, None where there was none."""
        self._refuse_while_writing()
        question = self.messages[-2]["content"] if self.messages else None
        del self.messages[-2:]
        return question

    def stop(self) -> None:
        """Ask the reply that is being written to end, also while the prompt is still being read. From any thread."""
        self._stopping.set()

    def answer(self, text: str) -> str:
        """Return the whole reply to `text` at once."""
        return "".join(self.stream(text))

    def stream(self, text: str) -> Iterator[str]:
        """Return an iterator over the reply to `text`, piece by piece, as it is written.

        They hold no role marker, no half character, no white space around the reply. When it ends, question and reply
        join `messages`; so they do when the caller breaks off after the first word. Raises CourseError at once where
        the message is empty or too long, or another thread (a second widget, say) has a reply written here.
        """
        return self._ask(text)

    def edit(self, text: str) -> Iterator[str]:
        """As `stream`, in place of the last question and its reply; they stay where nothing comes of it."""
        return self._ask(text, again=True)

    def regenerate(self) -> Iterator[str]:
        """As `stream`, for another reply to the last question, in the old one's place."""
        return self._ask(None, again=True)

    @property
    def used(self) -> tuple[int, int]:
        """(tokens of the conversation as the model would read it, those that it can read at most)."""
        messages = self._newest(self.messages, self.context)
        return self._length(messages) if messages else 0, self.context

    def settings(self) -> dict:
        """Return the settings that shape a reply, as a dictionary that json can write."""
        values = {field.name: getattr(self, field.name) for field in fields(Conversation)}
        own = {"own_format": True} if self.own_format else {}
        return {**dict(self._about), **values, "guard": self._preamble, **own}

    def save(self, path: Path | str) -> None:
        """Write the conversation to a JSONL file, whole or not at all; its first line holds the settings."""
        lines = [{"settings": self.settings()}, *self.messages]
        common.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def load(self, path: Path | str) -> None:
        """Go on with a conversation that was saved, with the settings of this session.

        Raises CourseError for a file of anything else than whole exchanges; nothing changes then.
        """

        def message(line):
            if "settings" in line:
                return None
            end = {"end": line["end"]} if "end" in line else {}
            return {"role": line["role"], "content": line["content"].strip(), **end}

        found = [m for m in common.read_jsonl(path, message, "message of a chat") if m]
        if [m["role"] for m in found] != ["user", "assistant"] * (len(found) // 2):
            raise CourseError(f"In {common.show(path)} user and assistant do not take turns.")
        self.clear()
        self.messages, self._drawn = found, len(found) // 2

    @property
    def _preamble(self):  # the guard as text that ends its line
        guard = transcript.PREAMBLE if self.guard is None else self.guard
        return guard.rstrip("\n") + "\n" if guard.strip() else ""

    @property
    def _reply_seed(self):  # another one for each reply, the same ones in each conversation
        return (1_000_003 * self.seed + self._drawn) % 2**31

    def _escaped(self, messages):
        """`[|AI|]` → `[ |AI|]`, `<|im_end|>` → `< |im_end|>`, in the prompt only: the talk keeps what was typed."""
        escape = partial(_TYPED_MARKER.sub, "[ ") if self.stops else partial(transcript.escape, markers=False)
        return [{"role": m["role"], "content": escape(m["content"])} for m in messages]

    def _guarded(self, messages):  # the guard as a system message
        return [{"role": "system", "content": self._preamble.strip()}] * bool(self._preamble) + messages

    def _ids(self, messages):
        """Token ids of messages as training showed them, up to the model's next word, or to a reply's end."""
        if self.own_format:
            return self.tokenizer(self._own_text(messages), add_special_tokens=False).input_ids
        if messages[-1]["role"] == "assistant":
            reply = encode_text(" " + messages[-1]["content"], self.tokenizer)
            return self._ids(messages[:-1]) + reply + [self.tokenizer.eos_token_id] * self.closes
        if self.closes:
            return encode_prompt(messages, self.tokenizer, self._preamble)
        return encode_text(transcript.prompt(messages, "", self._preamble), self.tokenizer, special=True)

    def _own_text(self, messages):
        unanswered = messages[-1]["role"] == "user"
        messages = self._guarded(messages)
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=unanswered)

    def _length(self, messages):
        if self.tokenizer:
            return len(self._ids(messages))
        letters = sum(len(m["content"].encode()) + 24 for m in messages)  # with the marks of a template
        return round(0.4 * (len(self._preamble) + letters))  # a little more than most languages need

    def _newest(self, messages, room, question=()):
        """What the model reads: the newest whole turns that fit. Half a question would get an answer to another."""
        spoken = []
        for asked, said in zip(messages[::2], messages[1::2], strict=True):
            if said["content"]:  # an exchange in which the model said nothing was never shown in training
                spoken += [asked, said]
        found = self._escaped([*spoken, *question])
        while found and self._length(found) > room:
            found = found[2:]
        return found

    def _window(self, messages, text):
        room = self.context - self.max_new_tokens
        question = [{"role": "user", "content": text.strip()}]
        found = self._newest(messages, room, question)
        if not found:
            tokens = self._length(question)
            raise CourseError(f"The message is too long: its prompt has {tokens} tokens, and there is room for {room}.")
        return found

    def _refuse_while_writing(self, seconds=0):
        # A reply that this thread left in the middle ends here; another thread's has some seconds to end.
        if self._writer == threading.get_ident() and (reply := self._reply()):
            reply.close()
        if not self._writing.acquire(timeout=seconds):
            raise CourseError(_WRITING)
        self._writing.release()

    def _ask(self, text, again=False):
        self._refuse_while_writing()
        kept = len(self.messages) - 2 * again
        if kept < 0:
            raise CourseError("There is no question yet. Ask one first.")
        text = self.messages[kept]["content"] if text is None else text.strip()
        if not text:
            raise CourseError("The message is empty: there is nothing to answer. Write a question.")
        messages = self._window(self.messages[:kept], text)
        self._stopping.clear()
        reply = self._converse(text, kept, messages, list(self.messages))
        self._reply = weakref.ref(reply)
        return reply

    def _converse(self, question, kept, messages, before):
        """Whatever ends this generator, exchanges stay whole: roles never fall out of step."""
        if self._writing.locked():
            raise CourseError(_WRITING)
        with self._writing:
            if self.messages != before:
                raise CourseError("The conversation has changed since the question was put. Ask again.")
            self._writer = threading.get_ident()
            self._drawn += 1
            pieces, began = self._write(messages), time.perf_counter()
            shown, held, closed = "", "", False
            end, failed, tokens, first = "stopped", False, 0, None
            try:
                for text, count in pieces:
                    first = first or time.perf_counter() - began
                    tokens += count
                    if text is None or text is FILTERED:
                        end = "stop" if text is None else "filter"
                        break
                    held += text
                    if not shown:
                        held = held.lstrip()  # training text has one space after the marker
                    piece, held, closed = release(held, self.stops)
                    shown += piece
                    if piece:
                        yield piece
                    if closed or self._stopping.is_set():
                        break
                else:
                    end = "stopped" if self._stopping.is_set() else "limit"
                if closed or (end != "stopped" and release(held, self.stops, ended=True)[2]):
                    end = "marker"
            except Exception:
                failed = True
                raise
            finally:
                pieces.close()
                self._writer = None
                self.last = ReplyStats(tokens, time.perf_counter() - began, end, first)
                # An older reply is better than half a new one.
                if (shown or end != "stopped") and not (failed and before[kept:]):
                    reply = {"role": "assistant", "content": shown, "end": end}
                    self.messages[kept:] = [{"role": "user", "content": question}, reply]


class ChatSession(Conversation):
    """One conversation with one model in this process.

    model, tokenizer : from models.load; adapter: False talks to the base model under a LoRA adapter.
    context          : None takes all that the model can read. settings : those of `Conversation`.
    own_format       : True for a model that was not tuned here: it is asked by the chat template of its tokenizer.
    closes           : False only for the released Baize models, whose training closed no answer with the stop token.
    """

    def __init__(
        self, model, tokenizer, *, adapter=True, context: int | None = None, own_format=False, closes=True, **settings
    ):
        from .decoding import CachedModel  # torch, which a chat with an endpoint does without

        self.tokenizer, self.own_format, self.closes = tokenizer, own_format, closes
        self.stops = () if own_format else STOPS
        self._model = CachedModel(model, adapter, lambda: self._stopping.is_set())
        name = tokenizer.name_or_path.replace("\\", "/").split("/")[-1]
        self._about = {"model": name, "adapter": self._model.adapter}
        super().__init__(context=context or getattr(model.config, "max_position_embeddings", 2048), **settings)

    def clear(self) -> None:
        super().clear()
        self._model.reset()  # keys that were computed in other steps differ in the last digit, and so would the draws

    def prompt(self, text: str) -> str:
        """Return what the model will read before it answers `text`: preamble, turns that fit, an open AI turn."""
        messages, stop = self._window(self.messages, text), self.tokenizer.eos_token if self.closes else ""
        return self._own_text(messages) if self.own_format else transcript.prompt(messages, stop, self._preamble)

    def _write(self, messages):
        import torch

        from .decoding import Interrupted, StreamDecoder, penalize_repetition, sample_token

        ids, said, decoder = self._ids(messages), [], StreamDecoder(self.tokenizer)
        rng, special = torch.Generator().manual_seed(self._reply_seed), self.tokenizer.all_special_ids
        while len(said) < min(self.max_new_tokens, self.context - len(ids)):  # either may change meanwhile
            try:
                logits = self._model.logits(ids + said)
            except Interrupted:
                return
            logits = penalize_repetition(logits, said, self.repetition_penalty)
            if not said:  # after a short training the stop can come before the first word; an answer has one at least
                logits = logits.clone()
                logits[special] = float("-inf")
            said.append(sample_token(logits, self.temperature, self.top_p, rng))
            yield (None if said[-1] in special else decoder.push(said[-1])), 1  # no answer can hold a special token


# llama.cpp's grammar (GBNF) for a first word before the stop token: white space, a character that is none, anything.
_SOME_WORD = r"root ::= [ \t\n]* [^ \t\n\x00] [^\x00]*"


class EndpointSession(Conversation):
    """One conversation with a model behind an OpenAI-compatible endpoint; its faults are raised as CourseError.

    tokenizer : given, the model was tuned on Baize text (a GGUF that `teacher.Engine` serves, say): it continues the
                prompt at /completions. That goes there as token ids, so it is exactly the training text, and what
                somebody typed can't become a special token. None: any chat model, asked at /chat/completions.
    settings  : those of `Conversation`. llama.cpp's repetition penalty counts the last 64 tokens, the prompt's too.
    """

    def __init__(self, teacher, tokenizer=None, own_format=False, **settings):
        self.teacher, self.tokenizer, self.own_format = teacher, tokenizer, own_format
        self.stops = STOPS if tokenizer and not own_format else ()
        self._about = {"model": teacher.model}
        super().__init__(**settings)

    def request(self, messages: list[dict]) -> tuple[str, dict]:
        """Return (kind, parameters) of the request for a reply to `messages`. kind: "chat" or "text"."""
        messages = self._window(messages[:-1], messages[-1]["content"])
        body = {
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self._reply_seed,
            "stream_options": {"include_usage": True},
        }
        extra = {} if self.repetition_penalty == 1 else {"repeat_penalty": self.repetition_penalty}
        if not self.tokenizer:
            body["messages"] = self._guarded(messages)
            return "chat", {**self.teacher.sampling, **body, "extra_body": extra}
        extra |= {"cache_prompt": True, "grammar": _SOME_WORD, "top_k": 0, "min_p": 0}  # top_p alone, as in ChatSession
        return "text", {**body, "prompt": self._ids(messages), "extra_body": extra}

    def _write(self, messages):
        kind, body = self.request(messages)
        wrote, finish, raw, begun, thought = 0, None, "", kind == "text", False
        with contextlib.closing(_stream_chunks(self.teacher, kind, body, self._stopping.is_set)) as chunks:
            for chunk in chunks:
                choice = (getattr(chunk, "choices", None) or [None])[0]
                finish = getattr(choice, "finish_reason", None) or finish
                text, thinks = read_content(choice if kind == "text" else getattr(choice, "delta", None))
                thought = thought or thinks
                if text:
                    raw += text
                    if not begun:  # thoughts stand before an answer, and can come letter by letter
                        text = remove_thoughts(raw)
                        begun = not re.fullmatch(r"\s*(?:[<◁\[]\S{0,20})?", text)
                    wrote += 1
                    yield text if begun else "", 1
                counted = getattr(getattr(chunk, "usage", None), "completion_tokens", None)
                if counted and type(counted) is int:
                    yield "", counted - wrote  # a piece can be several tokens
                    wrote = counted
        if self._stopping.is_set():
            return
        end, where = read_finish(finish), self.teacher.base_url
        rest = "" if begun else remove_thoughts(raw)
        if end == "fault":
            raise CourseError(f"{where} broke off its reply ({finish}). Ask again.")
        if not (begun or rest.strip() or end == "content_filter"):
            if not (raw or thought or end == "length"):
                raise CourseError(f"{where} sent an empty reply. Ask again.")
            self.teacher.thinks = True
            raise CourseError(f"{self.teacher.model} thought up to the token limit. Ask again: it gets more room now.")
        yield rest, 0
        if end != "length":
            yield FILTERED if end == "content_filter" else None, 0


@cache
def _background_loop():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def _stream_chunks(teacher, kind, body, stopped):
    """Yield the chunks of one streamed completion until `stopped()`; closing this closes the connection.

    A blocking client could not be stopped while it waits for the first word. A task can be cancelled.
    """
    arrived = queue.SimpleQueue()

    async def fetch():
        async with teacher.client() as client:
            create, stream = (client.chat.completions if kind == "chat" else client.completions).create, None
            while stream is None:
                sent = teacher.adapted(kind, body)
                try:
                    stream = await create(model=teacher.model, stream=True, **sent)
                except openai.APIError as error:
                    if not teacher.learn(error, sent):
                        raise
            async with stream:
                async for chunk in stream:
                    arrived.put(chunk)

    task = asyncio.run_coroutine_threadsafe(fetch(), _background_loop())
    task.add_done_callback(arrived.put)  # the last thing that arrives
    began = False
    try:
        while not stopped():
            try:
                item = arrived.get(timeout=0.05)  # between two looks at the wish to stop
            except queue.Empty:
                continue
            if item is task:
                task.result()  # raises what went wrong
                if not began:
                    raise CourseError(f"{teacher.base_url} answered with no stream. Is it an endpoint for chats?")
                return
            began = True
            yield item
    except CourseError:
        raise
    except Exception as error:
        fault = explained(error, teacher)
        if isinstance(fault, CourseError) and not began:
            raise fault from None
        raise CourseError(f"The reply from {teacher.base_url} broke off ({describe(error)}). Ask again.") from error
    finally:
        task.cancel()
