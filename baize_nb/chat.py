"""Chat sessions: what of a conversation a model reads, how its reply streams and where it ends, what is remembered."""

import asyncio
import contextlib
import json
import queue
import re
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import openai

from . import common, decoding, models, profiles, transcript
from .client import describe, read_content, read_finish
from .common import CourseError
from .decoding import STOPS, StopFilter
from .faults import explained
from .finetune.tokens import encode_prompt, encode_text
from .text import remove_thoughts

_WRITING = "A reply is being written in this conversation. Wait for its end, or stop it; then ask."
FILTERED = object()
_TYPED_MARKER = re.compile(r"\[(?=\|?(?:human|ai)\|?\])", re.IGNORECASE)


class ReplyStats(NamedTuple):
    """How a reply went. seconds: from the question to the end; first: to the first token, or None.

    end : "stop" (the model closed its turn), "marker" (it began to write the other's turn), "limit"
          (`max_new_tokens`), "filter" (the endpoint's) or "stopped" (by a person, or by an error).
    """

    tokens: int
    seconds: float
    end: str
    first: float | None = None

    @property
    def speed(self) -> float:  # tokens per second
        return self.tokens / max(self.seconds, 1e-9)


class Conversation:
    """What ChatSession and EndpointSession share. Settings are plain attributes and may be changed at any time.

    max_new_tokens : tokens of one reply at most; None takes the profile's `reply_tokens`.
    temperature, top_p, repetition_penalty : as in decoding.py.
    seed    : the same questions in the same order get the same replies; `clear` starts it again.
    context : tokens of prompt and reply together.
    guard   : the text before the first turn; None is transcript.PREAMBLE, the one of training; "" leaves it out.

    `messages` holds the whole conversation, each reply with its `end`; `last` the newest `ReplyStats`. A subclass has
    `_write(messages)`: an iterator of (text, tokens), where the text None says that the model closed its turn, and
    FILTERED that a filter cut it; it may have `_escaped` (messages as it reads them) and `_length` (their tokens).
    """

    stops = STOPS

    def __init__(
        self,
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 0.95,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        context: int = 2048,
        guard: str | None = None,
    ):
        self.max_new_tokens = max_new_tokens or profiles.current().reply_tokens
        self.temperature, self.top_p, self.repetition_penalty = temperature, top_p, repetition_penalty
        self.seed, self.context, self.guard = seed, context, guard
        self._stopping, self._writing = threading.Event(), threading.Lock()
        self._writer, self._reply = None, lambda: None  # who writes a reply; a weak reference to its iterator
        self.clear()

    def _escaped(self, messages):
        return messages

    def _length(self, messages):
        return 0

    def clear(self) -> None:
        """End the reply that is being written, forget the conversation, and start the random numbers again."""
        self.stop()
        self._refuse_while_writing(seconds=10)
        self.messages, self.last, self._drawn = [], None, 0

    def undo(self) -> str | None:
        """Take the last question and its reply back; return the question, or None where there was none."""
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

        The pieces together are the reply: no role marker, no half character, no white space around it. When it ends,
        question and reply join `messages`; so they do when the caller breaks off after the first word.
        Raises CourseError at once where the message is empty or longer than the context, or where another thread (a
        second widget, say) has a reply written here: exchanges come one after the other.
        """
        self._refuse_while_writing()
        return self._ask(text, len(self.messages) // 2)

    def regenerate(self) -> Iterator[str]:
        """Return an iterator over another reply to the last question; it takes the old one's place when it ends."""
        return self.edit(None)

    def edit(self, text: str | None, turn: int = -1) -> Iterator[str]:
        """Return an iterator over the reply to `text` in place of question `turn`; what came after it is dropped.

        turn : 0 is the first question, -1 the last. text : None asks the old question again.
        Broken off before its first word, or failed, the conversation stays as it was. Raises CourseError as `stream`.
        """
        self._refuse_while_writing()
        turns = len(self.messages) // 2
        if not -turns <= turn < turns:
            raise CourseError(f"There is no question number {turn}: the conversation has {turns}. Ask one first.")
        turn %= turns
        return self._ask(self.messages[2 * turn]["content"] if text is None else text, turn)

    @property
    def used(self) -> tuple[int, int]:
        """(tokens, context): the conversation so far as the model would read it, and what it can read at most."""
        messages = self._readable(self.messages)
        sizes = (self._length(messages[start:]) for start in range(0, len(messages), 2))
        return next((size for size in sizes if size <= self.context), 0), self.context

    def settings(self) -> dict:
        """Return the settings that shape a reply, as a dictionary that json can write."""
        names = ("max_new_tokens", "temperature", "top_p", "repetition_penalty", "seed", "context")
        return {name: getattr(self, name) for name in names} | {"guard": self._preamble}

    def save(self, path: Path | str) -> None:
        """Write the conversation to a JSONL file, whole or not at all; its first line holds the settings."""
        lines = [{"settings": self.settings()}, *self.messages]
        common.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def load(self, path: Path | str) -> None:
        """Go on with a conversation that was saved. The settings stay those of this session.

        Raises CourseError, with file and line, for a file of anything else than whole exchanges; nothing changes then.
        """
        found = []

        def message(line):
            if not found and "settings" in line:
                return
            role = ("user", "assistant")[len(found) % 2]
            if line["role"] != role or not isinstance(line["content"], str):
                raise ValueError(f'it should be {{"role": "{role}", "content": "…"}}: user and assistant take turns')
            if role == "user" and not line["content"].strip():
                raise ValueError("the question is empty")
            if line.get("end", "stop") not in ("stop", "marker", "limit", "filter", "stopped"):
                raise ValueError(f"its `end` is {line['end']!r}")
            found.append({key: line[key] for key in ("role", "content", "end") if key in line})

        list(common.read_jsonl(path, message, "message of a chat"))
        if len(found) % 2:
            raise CourseError(f"{common.show(path)} ends with a question without an answer. Remove its last line.")
        self.clear()
        self.messages, self._drawn = found, len(found) // 2

    @property
    def _preamble(self):
        """The guard as text that ends its line."""
        guard = transcript.PREAMBLE if self.guard is None else self.guard
        return guard.rstrip("\n") + "\n" if guard.strip() else ""

    @property
    def _reply_seed(self):
        """The random seed of this reply: another one for each, the same ones in each conversation."""
        return (1_000_003 * self.seed + self._drawn) % 2**31

    def _readable(self, messages):
        """Messages as the model reads them; an exchange in which it said nothing was never shown in training."""
        pairs = zip(messages[::2], messages[1::2], strict=True)
        return self._escaped([message for pair in pairs if pair[1]["content"] for message in pair])

    def _window(self, messages, text):
        """The newest whole turns before `text` that fit, and `text`: half a question would get an answer to another."""
        messages = [*self._readable(messages), *self._escaped([{"role": "user", "content": text.strip()}])]
        room = self.context - self.max_new_tokens
        for start in range(0, len(messages), 2):
            if self._length(messages[start:]) <= room:
                return messages[start:]
        raise CourseError(
            f"The message is too long: its prompt has {self._length(messages[-1:])} tokens, and there is room for "
            f"{room} (context less max_new_tokens). Shorten it, ask for fewer new tokens, or take a larger context."
        )

    def _refuse_while_writing(self, seconds=0):
        """A reply that this thread left in the middle ends here; another thread's has some seconds to end."""
        if self._writer == threading.get_ident() and (reply := self._reply()):
            reply.close()
        if not self._writing.acquire(timeout=seconds):
            raise CourseError(_WRITING)
        self._writing.release()

    def _ask(self, text, turn):
        """Check the question and return the iterator over its reply, which will stand at `turn`."""
        if not text.strip():
            raise CourseError("The message is empty: there is nothing to answer. Write a question.")
        messages = self._window(self.messages[: 2 * turn], text)
        self._stopping.clear()
        reply = self._converse(text.strip(), turn, messages, list(self.messages))
        self._reply = weakref.ref(reply)
        return reply

    def _converse(self, question, turn, messages, before):
        """The generator behind `stream`. Whatever ends it, exchanges stay whole: roles never fall out of step."""
        if self._writing.locked():
            raise CourseError(_WRITING)
        with self._writing:
            if self.messages != before:
                raise CourseError("The conversation has changed since the question was put. Ask again.")
            self._writer = threading.get_ident()
            self._drawn += 1
            pieces, screen, failed = self._write(messages), StopFilter(self.stops), False
            began, first, sampled, end = time.perf_counter(), None, 0, "stopped"
            try:
                for text, tokens in pieces:
                    first = first if first is not None else time.perf_counter() - began
                    sampled += tokens
                    if text is None or text is FILTERED:
                        end = "stop" if text is None else "filter"
                        break
                    if piece := screen.push(text):
                        yield piece
                    if screen.closed or self._stopping.is_set():
                        break
                else:
                    end = "stopped" if self._stopping.is_set() else "limit"
                if screen.closed or (end != "stopped" and screen.finish()):
                    end = "marker"
            except Exception:
                failed = True
                raise
            finally:
                pieces.close()
                self._writer = None
                self.last = ReplyStats(sampled, time.perf_counter() - began, end, first)
                lost = failed and 2 * turn < len(self.messages)  # an older reply is better than half a new one
                if (screen.shown or end != "stopped") and not lost:
                    reply = {"role": "assistant", "content": screen.shown, "end": end}
                    self.messages[2 * turn :] = [{"role": "user", "content": question}, reply]


def _escape_markers(messages):
    """`[|AI|]` → `[ |AI|]`, for every way to write a marker. In the prompt only: the conversation keeps what was typed.

    Special tokens in the text need nothing here: they are cut into their letters.
    """
    return [{"role": m["role"], "content": _TYPED_MARKER.sub("[ ", m["content"])} for m in messages]


def _prompt_ids(messages, tokenizer, preamble, closes=True):
    """Token ids of messages as training showed them, up to the model's next word, or to a reply's end.

    closes : False for the released Baize models: no stop token in a dialogue, whose text was cut into tokens as one.
    """
    if messages[-1]["role"] == "assistant":
        reply = encode_text(" " + messages[-1]["content"], tokenizer) + [tokenizer.eos_token_id] * closes
        return _prompt_ids(messages[:-1], tokenizer, preamble, closes) + reply
    if closes:
        return encode_prompt(messages, tokenizer, preamble)
    return encode_text(transcript.prompt(messages, "", preamble), tokenizer, special=True)


class ChatSession(Conversation):
    """One conversation with one model in this process.

    model, tokenizer : from models.load; adapter: False talks to the base model under a LoRA adapter.
    context          : None takes all that the model can read. settings : those of `Conversation`.
    closes           : False only for the released Baize models, whose training closed no answer with the stop token.
    """

    def __init__(self, model, tokenizer, *, adapter: bool = True, context: int | None = None, closes=True, **settings):
        self.tokenizer, self._closes = tokenizer, closes
        self._model = decoding.CachedModel(model, adapter, lambda: self._stopping.is_set())
        super().__init__(context=context or getattr(model.config, "max_position_embeddings", 2048), **settings)

    def clear(self) -> None:
        """As in Conversation."""
        super().clear()
        self._model.reset()  # keys that were computed in other steps differ in the last digit, and so would the draws

    def prompt(self, text: str) -> str:
        """Return what the model will read before it answers `text`: preamble, turns that fit, an open AI turn."""
        stop = self.tokenizer.eos_token if self._closes else ""
        return transcript.prompt(self._window(self.messages, text), stop, self._preamble)

    def settings(self) -> dict:
        """As in Conversation; the model too."""
        name = self.tokenizer.name_or_path.replace("\\", "/").split("/")[-1]
        return {"model": name, "adapter": self._model.adapter} | super().settings()

    def _escaped(self, messages):
        return _escape_markers(messages)

    def _length(self, messages):
        return len(_prompt_ids(messages, self.tokenizer, self._preamble, self._closes))

    def _write(self, messages):
        import torch

        ids, said = _prompt_ids(messages, self.tokenizer, self._preamble, self._closes), []
        rng, special = torch.Generator().manual_seed(self._reply_seed), self.tokenizer.all_special_ids
        decoder = decoding.StreamDecoder(self.tokenizer)
        while len(said) < min(self.max_new_tokens, self.context - len(ids)):  # either may change meanwhile
            try:
                logits = decoding.penalize_repetition(self._model.logits(ids + said), said, self.repetition_penalty)
            except decoding.Interrupted:
                return
            if not said:  # after a short training the stop can come before the first word; an answer has one at least
                logits = logits.clone()
                logits[special] = float("-inf")
            said.append(decoding.sample_token(logits, self.temperature, self.top_p, rng))
            yield (None if said[-1] in special else decoder.push(said[-1])), 1  # no answer can hold a special token


# A reply has a first word: the stop token may come after it only. llama.cpp obeys this grammar (GBNF) token by token:
# white space, one character that is none, then anything.
_SOME_WORD = r"root ::= [ \t\n]* [^ \t\n\x00] [^\x00]*"


class EndpointSession(Conversation):
    """One conversation with a model behind an OpenAI-compatible endpoint, llama.cpp's included.

    tokenizer : given, the model was tuned on Baize text (a merged GGUF that `teacher.Engine` serves, say): it continues
                the prompt at /completions. The prompt goes there as token ids, so it is exactly the training text and
                what somebody typed can't become a special token. None: any chat model, asked at /chat/completions;
                the size of a prompt is then estimated from its bytes, by what the endpoint counted in the last reply.
    settings  : those of `Conversation`. llama.cpp's repetition penalty counts the last 64 tokens, the prompt's too.

    Faults of the endpoint are raised as CourseError while the reply is read.
    """

    def __init__(self, teacher, tokenizer=None, **settings):
        self.teacher, self.tokenizer = teacher, tokenizer
        self.stops = STOPS if tokenizer else ()  # to another model a marker is a word like any other
        self._tokens_per_byte = 0.4  # until a reply has shown the real number: a little more than any language needs
        super().__init__(**settings)

    def settings(self) -> dict:
        """As in Conversation; the model too."""
        return {"model": self.teacher.model} | super().settings()

    def request(self, messages: list[dict]) -> tuple[str, dict]:
        """Return (kind, parameters) of the request for a reply to `messages`: "chat" or "text", and what is sent."""
        return self._request(self._window(messages[:-1], messages[-1]["content"]))

    def _escaped(self, messages):
        if self.tokenizer:
            return _escape_markers(messages)
        return [{"role": m["role"], "content": transcript.escape(m["content"], markers=False)} for m in messages]

    def _length(self, messages):
        if self.tokenizer:
            return len(_prompt_ids(messages, self.tokenizer, self._preamble))
        return round(self._tokens_per_byte * self._bytes(messages))

    def _bytes(self, messages):  # of a chat prompt, the marks of its template included
        return sum(len(m["content"].encode()) + 24 for m in self._guarded(messages))

    def _guarded(self, messages):
        guard = self._preamble.strip()
        return [{"role": "system", "content": guard}, *messages] if guard else messages

    def _request(self, messages):
        body = {
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self._reply_seed,
            "stream_options": {"include_usage": True},
        }
        extra = {} if self.repetition_penalty == 1 else {"repeat_penalty": self.repetition_penalty}
        if not self.tokenizer:
            return "chat", {**self.teacher.sampling, **body, "messages": self._guarded(messages), "extra_body": extra}
        extra |= {"cache_prompt": True, "grammar": _SOME_WORD, "top_k": 0, "min_p": 0}  # top_p alone, as in ChatSession
        prompt = _prompt_ids(messages, self.tokenizer, self._preamble)
        return "text", {**body, "prompt": prompt, "extra_body": extra}

    def _write(self, messages):
        kind, body = self._request(messages)
        counted, finish, raw, begun, thought = 0, None, "", kind == "text", False
        with contextlib.closing(_stream_chunks(self.teacher, kind, body, self._stopping.is_set)) as chunks:
            for chunk in chunks:
                choices = getattr(chunk, "choices", None)
                choice = choices[0] if isinstance(choices, list) and choices else None
                finish = getattr(choice, "finish_reason", None) or finish
                text, thinks = read_content(choice if kind == "text" else getattr(choice, "delta", None))
                thought = thought or thinks
                if text and isinstance(text, str):
                    counted += 1
                    raw += text
                    if not begun:  # thoughts stand before an answer, and can come letter by letter
                        text = remove_thoughts(raw)
                        begun = not re.fullmatch(r"\s*(?:[<◁\[]\S{0,20})?", text)
                    yield text if begun else "", 1
                usage = getattr(chunk, "usage", None)
                read, wrote = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
                if wrote and type(wrote) is int:
                    if read and type(read) is int:  # for the next estimate
                        self._tokens_per_byte = read / max(self._bytes(messages), 1)
                    yield "", wrote - counted  # a piece can be several tokens
                    counted = wrote
        if self._stopping.is_set():
            return
        end, rest = read_finish(finish), "" if begun else remove_thoughts(raw)
        if end == "fault":
            raise CourseError(f"{self.teacher.base_url} broke off its reply ({finish}). Ask again.")
        said = (begun and raw) or rest.strip()
        thought = thought or (kind == "chat" and end == "length")  # where nothing else was said
        if kind == "chat" and not (said or raw or thought or end == "content_filter"):
            raise CourseError(f"{self.teacher.base_url} sent an empty reply. Ask again.")
        if not said and (raw or thought):
            self.teacher.thinks = True
            raise CourseError(
                f"{self.teacher.model} thought up to the token limit and wrote no reply. Ask again: from now on room "
                "for thoughts is asked for. Or raise max_new_tokens."
            )
        yield rest, 0
        if end != "length":
            yield FILTERED if end == "content_filter" else None, 0


def _stream_chunks(teacher, kind, body, stopped):
    """Yield the chunks of one streamed completion until `stopped()`; closing this closes the connection.

    The request runs in a thread with an event loop of its own. A blocking client could not be stopped while it waits
    for the first word: closing a socket does not wake the thread that reads from it. Cancelling a task does.
    """
    arrived, loop = queue.SimpleQueue(), asyncio.new_event_loop()

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

    task = loop.create_task(fetch())

    def run():
        try:
            arrived.put(loop.run_until_complete(task))  # None: the end
        except BaseException as error:
            arrived.put(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    threading.Thread(target=run, daemon=True).start()
    began = False
    try:
        while not stopped():
            try:
                item = arrived.get(timeout=0.05)  # between two looks at the wish to stop
            except queue.Empty:
                continue
            if item is None and not began:
                raise CourseError(f"{teacher.base_url} answered with no stream. Is it an endpoint for chats?")
            if item is None:
                return
            if isinstance(item, BaseException):
                if isinstance(item, CourseError | openai.OpenAIError) and not began:
                    with contextlib.suppress(openai.OpenAIError), explained(teacher):
                        raise item
                raise CourseError(
                    f"The reply from {teacher.base_url} broke off ({describe(item)}). Check the endpoint and the "
                    "network, and ask again."
                ) from item
            began = True
            yield item
    finally:
        with contextlib.suppress(RuntimeError):  # its loop has ended
            loop.call_soon_threadsafe(task.cancel)


# What the released chat tells its model, in our words. It differs from the preamble of its training text.
# Source: Baize (arXiv 2304.01196) and its released models; LLaMA's licence and theirs allow research only.
GUARD = (
    "What follows is a conversation between a human and Baize, an open-source AI assistant. The two take turns: "
    "[|Human|] begins what the human says and [|AI|] what the assistant says. The assistant answers in as much detail "
    "as it can and writes Markdown. It declines to talk about anything unethical, controversial or sensitive."
)
RELEASED = {  # name: (hub id of a whole model, hub id of the LoRA weights on it or None where they are merged in)
    "7b": ("huggyllama/llama-7b", "project-baize/baize-lora-7B"),
    "13b": ("huggyllama/llama-13b", "project-baize/baize-lora-13B"),
    "30b": ("huggyllama/llama-30b", "project-baize/baize-lora-30B"),
    "healthcare": ("huggyllama/llama-7b", "project-baize/baize-healthcare-lora-7B"),
    "v2-7b": ("project-baize/baize-v2-7b", None),
    "v2-13b": ("project-baize/baize-v2-13b", None),
}


def load_baize(name: str, folder: Path | str | None = None, dtype: str = "float16", **settings) -> ChatSession:
    """Load a released Baize model as a `ChatSession`. Never run here with the real weights, which take 14 GB and more.

    name   : a key of RELEASED. dtype : as in models.load; "int8" halves the memory again (GPU).
    folder : instead of the model hub, one that holds the same, such as `llama-7b/` and `baize-lora-7B/`.
    """
    if name not in RELEASED:
        raise CourseError(f"There is no released Baize model {name!r}. Choose one of: {', '.join(RELEASED)}.")
    base, adapter = RELEASED[name]
    if folder is None:
        adapter = adapter and f"hub:{adapter}"
    else:
        base, adapter = (part and str(Path(folder) / part.split("/")[-1]) for part in (base, adapter))
    model, tokenizer = models.load(base, dtype, adapter)
    # Its training text closes no turn with the stop token: the markers end a reply.
    return ChatSession(model, tokenizer, **{"guard": GUARD, "closes": False} | settings)
