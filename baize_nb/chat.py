"""Chat sessions: what of a conversation a model reads, how its reply streams and where it ends, what is remembered.

`ChatSession` talks to a model of transformers in this process, `EndpointSession` to one behind an OpenAI-compatible
endpoint; `Conversation` is what they share. `load_baize` makes a session with a released Baize model.
"""

import asyncio
import contextlib
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import openai

from . import common, decoding, models, profiles, transcript
from .client import describe, read_content, read_finish
from .common import CourseError
from .decoding import STOPS, StopFilter
from .faults import explained
from .finetune.tokens import encode_prompt
from .text import remove_thoughts

_OPENS = re.compile(r"\s*(?:<[\w:|]{0,12}|◁[^▷]{0,8})?")  # the beginning of `<think>` and its kin
_TYPED_MARKER = re.compile(r"\[(?=\|?(?:human|ai)\|?\])", re.IGNORECASE)


class ReplyStats(NamedTuple):
    """How a reply went. tokens: sampled; seconds: from the question to the end, reading the prompt included.

    end   : "stop" (the model closed its turn by its stop token), "marker" (it began to write the other's turn), "limit"
            (`max_new_tokens`), "filter" (the endpoint's) or "stopped" (by a person, or by an error).
    first : seconds to the first token; None where none came.
    """

    tokens: int
    seconds: float
    end: str
    first: float | None = None

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)


def window(messages: list[dict], room: int, length: Callable) -> list[dict]:
    """Return the newest whole turns of `messages` that fit into `room` tokens.

    messages : alternating, user first, a user message last.
    length   : function from such a list to the tokens of its prompt, preamble included; it is never cut.
    Raises CourseError where even the last message alone is too long: half a question would get an answer to another.
    """
    for start in range(0, len(messages), 2):
        if length(messages[start:]) <= room:
            return messages[start:]
    raise CourseError(
        f"The message is too long: its prompt has {length(messages[-1:])} tokens and there is room for {room} "
        "(context less max_new_tokens). Shorten the message, ask for fewer new tokens, or make the session with a "
        "larger context."
    )


class Conversation:
    """What ChatSession and EndpointSession share. All settings are plain attributes and may be changed at any time.

    max_new_tokens     : tokens of one reply at most; None takes the profile's `reply_tokens`.
    temperature, top_p : as in `decoding.sample_token`; temperature 0 always takes the likeliest token.
    repetition_penalty : above 1, what was just said becomes less likely; 1 is none.
    seed               : the same questions in the same order get the same replies; `clear` starts it again.
    context            : tokens of prompt and reply together.
    guard              : the text before the first turn, which tells the model how to behave. None is
                         transcript.PREAMBLE, the one of training; "" leaves it out.

    `messages` holds the whole conversation; a reply carries its `end` beside its content. `last` is the newest
    `ReplyStats`. A subclass has `_write(messages)`: an iterator of (text, tokens), where the text None says that the
    model closed its turn; and may have `_escaped` (messages as it reads them) and `_length` (tokens of their prompt).
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
        self._stopping = threading.Event()
        self.clear()

    def _escaped(self, messages):
        return messages

    def _length(self, messages):
        return 0

    def clear(self) -> None:
        """Forget the conversation and start the random numbers again."""
        self.messages, self.last, self._drawn = [], None, 0

    def undo(self) -> str | None:
        """Take the last question and its reply back; return the question, or None where there was none."""
        if not self.messages:
            return None
        question = self.messages[-2]["content"]
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

        The pieces together are the reply: no role marker, no half character, no white space around it. When the reply
        ends, question and reply join `messages`; so they do when the caller breaks off, with what was said so far
        (stopped before the first word, the question is forgotten).
        Raises CourseError at once where the message is empty or longer than the context.
        """
        return self._ask(text, len(self.messages) // 2)

    def regenerate(self) -> Iterator[str]:
        """Return an iterator over another reply to the last question; it takes the old one's place when it ends.

        Broken off before its first word, or failed, the old exchange stands. Raises CourseError where there is none.
        """
        return self.edit(None)

    def edit(self, text: str | None, turn: int = -1) -> Iterator[str]:
        """Return an iterator over the reply to `text` in place of question `turn`; what came after it is dropped.

        turn : 0 is the first question, -1 the last. text : None asks the old question again.
        Broken off before its first word, or failed, the conversation stays as it was. Raises CourseError at once where
        there is no such turn, or the text is empty or too long.
        """
        turns = len(self.messages) // 2
        if not -turns <= turn < turns:
            raise CourseError(f"There is no question number {turn}: the conversation has {turns}. Ask one first.")
        turn %= turns
        return self._ask(self.messages[2 * turn]["content"] if text is None else text, turn)

    @property
    def used(self) -> tuple[int, int]:
        """(tokens, context): the conversation so far as the model would read it, and what it can read at most."""
        messages = self._escaped(_answered(self.messages))
        sizes = (self._length(messages[start:]) for start in range(0, len(messages), 2))
        return next((size for size in sizes if size <= self.context), 0), self.context

    def settings(self) -> dict:
        """Return the settings that shape a reply, as a dictionary that json can write."""
        names = ("max_new_tokens", "temperature", "top_p", "repetition_penalty", "seed", "context")
        return {name: getattr(self, name) for name in names} | {"guard": self._preamble}

    def save(self, path: Path | str) -> None:
        """Write the conversation to a JSONL file, whole or not at all; in its first line the settings, for the record.

        Raises CourseError where it can't be written.
        """
        lines = [{"settings": self.settings()}, *self.messages]
        common.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def load(self, path: Path | str) -> None:
        """Go on with a conversation that was saved. The settings stay those of this session.

        The first line of the file, the settings, may be missing. Raises CourseError, with file and line, where the file
        holds no conversation of whole exchanges; this one is then unchanged.
        """
        found = []

        def message(line):
            if not found and "settings" in line:
                return None
            role = ("user", "assistant")[len(found) % 2]
            if line["role"] != role or not isinstance(line["content"], str):
                raise ValueError(f'it should be {{"role": "{role}", "content": "…"}}: user and assistant take turns')
            if role == "user" and not line["content"].strip():
                raise ValueError("the question is empty")
            if line.get("end", "stop") not in ("stop", "marker", "limit", "filter", "stopped"):
                raise ValueError(f"its `end` is {line['end']!r}")
            found.append({key: line[key] for key in ("role", "content", "end") if key in line})

        try:
            for _ in common.read_jsonl(path, message, "message of a chat"):
                pass
        except OSError as error:
            raise CourseError(f"Could not read {common.show(path)} ({error.strerror}). Check its name.") from error
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

    def _window(self, messages, text):
        """What the model reads of the turns before `text`, and `text`."""
        messages = [*_answered(messages), {"role": "user", "content": text.strip()}]
        return window(self._escaped(messages), self.context - self.max_new_tokens, self._length)

    def _ask(self, text, turn):
        """Check the question and return the iterator over its reply, which will stand at `turn`."""
        if not text.strip():
            raise CourseError("The message is empty: there is nothing to answer. Write a question.")
        messages = self._window(self.messages[: 2 * turn], text)
        self._stopping.clear()
        return self._converse(text.strip(), turn, messages)

    def _converse(self, question, turn, messages):
        """The generator behind `stream`. Whatever ends it, exchanges stay whole: roles never fall out of step."""
        self._drawn += 1
        pieces, screen, failed = self._write(messages), StopFilter(self.stops), False
        began, first, sampled, end = time.perf_counter(), None, 0, "stopped"
        try:
            for text, tokens in pieces:
                first = first if first is not None else time.perf_counter() - began
                if text is None:
                    end = "filter" if tokens == "content_filter" else "stop"
                    break
                sampled += tokens
                if piece := screen.push(text):
                    yield piece
                if screen.closed:
                    end = "marker"
                    break
                if self._stopping.is_set():
                    break
            else:
                end = "stopped" if self._stopping.is_set() else "limit"
        except Exception:
            failed = True
            raise
        finally:
            pieces.close()
            self.last = ReplyStats(sampled, time.perf_counter() - began, end, first)
            lost = failed and 2 * turn < len(self.messages)  # an older reply is better than half a new one
            if (screen.shown or end != "stopped") and not lost:
                reply = {"role": "assistant", "content": screen.shown, "end": end}
                self.messages[2 * turn :] = [{"role": "user", "content": question}, reply]


def _answered(messages):
    """Messages without the exchanges in which the model said nothing: training never showed it an empty turn."""
    pairs = zip(messages[::2], messages[1::2], strict=True)
    return [message for pair in pairs if pair[1]["content"] for message in pair]


def _escape_markers(messages):
    """`[|AI|]` → `[ |AI|]`, for every way to write a marker. In the prompt only: the conversation keeps what was typed.

    Special tokens in the text need nothing here: they are cut into their letters.
    """
    return [{"role": m["role"], "content": _TYPED_MARKER.sub("[ ", m["content"])} for m in messages]


def _encode(messages, tokenizer, preamble, closes=True):
    """Token ids of a prompt in Baize's format: what training showed the model, up to its next word.

    closes : whether training closed every answer with the stop token, as this course's does. The released Baize models
             have none inside a dialogue, and their text was cut into tokens in one piece.
    """
    if closes:
        return encode_prompt(messages, tokenizer, preamble)
    return tokenizer(transcript.prompt(messages, "", preamble), split_special_tokens=True).input_ids


def _prompt_length(messages, tokenizer, preamble, closes=True):
    """Tokens of the prompt, and of the reply to it where messages end with one."""
    if messages[-1]["role"] == "user":
        return len(_encode(messages, tokenizer, preamble, closes))
    reply = tokenizer(" " + messages[-1]["content"], add_special_tokens=False, split_special_tokens=True).input_ids
    return len(_encode(messages[:-1], tokenizer, preamble, closes)) + len(reply) + closes


class ChatSession(Conversation):
    """One conversation with one model in this process.

    model, tokenizer : from models.load; bare or with a LoRA adapter.
    adapter          : False talks to the base model under a LoRA adapter, without loading it twice.
    context          : tokens of prompt and reply together; None takes all that the model can read.
    closes           : False only for the released Baize models, whose training closed no answer with the stop token.
    settings         : those of `Conversation`.
    """

    def __init__(self, model, tokenizer, *, adapter: bool = True, context: int | None = None, closes=True, **settings):
        self.tokenizer, self._closes = tokenizer, closes
        self._model = decoding.CachedModel(model, adapter, lambda: self._stopping.is_set())
        super().__init__(context=context or getattr(model.config, "max_position_embeddings", 2048), **settings)

    def clear(self) -> None:
        """Forget the conversation and start the random numbers again."""
        super().clear()
        self._model.reset()  # keys that were computed in other steps differ in the last digit, and so would the draws

    def prompt(self, text: str) -> str:
        """Return what the model will read before it answers `text`: preamble, turns that fit, an open AI turn."""
        stop = self.tokenizer.eos_token if self._closes else ""
        return transcript.prompt(self._window(self.messages, text), stop, self._preamble)

    def settings(self) -> dict:
        """Return the settings that shape a reply, as a dictionary that json can write."""
        name = self.tokenizer.name_or_path.replace("\\", "/").split("/")[-1]
        return {"model": name, "adapter": self._model.adapter} | super().settings()

    def _escaped(self, messages):
        return _escape_markers(messages)

    def _length(self, messages):
        return _prompt_length(messages, self.tokenizer, self._preamble, self._closes)

    def _write(self, messages):
        """(text, 1) for each token; the text is None for a special token, which no answer can hold: it ends one."""
        import torch

        ids, said = _encode(messages, self.tokenizer, self._preamble, self._closes), []
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
            yield (None if said[-1] in special else decoder.push(said[-1])), 1


# A reply has a first word: the stop token may come after it only. llama.cpp obeys this grammar (GBNF) token by token:
# white space, one character that is none, then anything.
_SOME_WORD = r"root ::= [ \t\n]* [^ \t\n\x00] [^\x00]*"


class EndpointSession(Conversation):
    """One conversation with a model behind an OpenAI-compatible endpoint, llama.cpp's included.

    teacher   : a `teacher.Teacher`: where the endpoint is, and the model's name there.
    tokenizer : given, the model was tuned on Baize text (a merged GGUF that `engine.Engine` serves, say): it continues
                the prompt at /completions. The prompt goes there as token ids, so it is exactly the training text and
                what somebody typed can't become a special token. None: any chat model, asked at /chat/completions.
    settings  : those of `Conversation`. An endpoint that knows no repetition penalty gets none where it is 1;
                llama.cpp's counts the last 64 tokens, the prompt's among them. The embedded engine has a context of
                2048 tokens for each slot.

    Without a tokenizer the size of a prompt is estimated from its bytes and, after the first reply, from what the
    endpoint counted. Errors of the endpoint are raised while the reply is read: CourseError where a person can mend it.
    """

    def __init__(self, teacher, tokenizer=None, **settings):
        self.teacher, self.tokenizer = teacher, tokenizer
        self.stops = STOPS if tokenizer else ()  # to another model a marker is a word like any other
        self._tokens_per_byte = 0.4  # until a reply has shown the real number: a little more than any language needs
        super().__init__(**settings)

    def settings(self) -> dict:
        """Return the settings that shape a reply, as a dictionary that json can write."""
        return {"model": self.teacher.model} | super().settings()

    def _escaped(self, messages):
        if self.tokenizer:
            return _escape_markers(messages)
        return [{"role": m["role"], "content": transcript.escape(m["content"], markers=False)} for m in messages]

    def _length(self, messages):
        if self.tokenizer:
            return _prompt_length(messages, self.tokenizer, self._preamble)
        return round(self._tokens_per_byte * self._bytes(messages))

    def _bytes(self, messages):
        """Bytes of a chat prompt, the marks of its template included."""
        return sum(len(m["content"].encode()) + 24 for m in self._guarded(messages))

    def _guarded(self, messages):
        """Messages with the guard before them, where there is one."""
        guard = self._preamble.strip()
        return [{"role": "system", "content": guard}, *messages] if guard else messages

    def _write(self, messages):
        """(text, tokens) for each piece that the endpoint sends; the text None where the model closed its turn."""
        kind, body = self._request(messages)
        counted, finish, said, shown, thoughts = 0, None, "", "", False
        with contextlib.closing(_stream_chunks(self.teacher, kind, body, self._stopping.is_set)) as chunks:
            for chunk in chunks:
                usage = getattr(chunk, "usage", None)
                for choice in filter(None, chunk.choices or ()):
                    finish = getattr(choice, "finish_reason", None) or finish
                    text, thought = read_content(choice if kind == "text" else getattr(choice, "delta", None))
                    said, thoughts = said + text, thoughts or thought
                    # What a model thinks is no reply; what may yet become the mark of a thought waits.
                    visible = said if kind == "text" else "" if _OPENS.fullmatch(said) else remove_thoughts(said)
                    if len(visible) > len(shown):
                        counted += 1
                        yield visible[len(shown) :], 1
                        shown = visible
                wrote = getattr(usage, "completion_tokens", None)
                if isinstance(wrote, int) and wrote:
                    if isinstance(usage.prompt_tokens, int) and usage.prompt_tokens:  # for the next estimate
                        self._tokens_per_byte = usage.prompt_tokens / max(self._bytes(messages), 1)
                    yield "", wrote - counted  # a piece can be several tokens
                    counted = wrote
        if self._stopping.is_set():
            return
        if said != shown and (rest := remove_thoughts(said)[len(shown) :]):
            yield rest, 1
            shown += rest
        end = read_finish(finish)
        if end == "fault" or (not shown and (thoughts or said != shown)):
            self.teacher.thinks = self.teacher.thinks or end != "fault"
            raise CourseError(
                f"{self.teacher.base_url} broke off its reply ({finish})."
                if end == "fault"
                else f"{self.teacher.model} thought up to the token limit and wrote no reply. Ask again: from now on "
                "room for thoughts is asked for. Or raise max_new_tokens."
            )
        if end != "length":
            yield None, end

    def request(self, messages: list[dict]) -> tuple[str, dict]:
        """Return (kind, parameters) of the request for a reply to `messages`: "chat" or "text", and what is sent."""
        return self._request(self._window(messages[:-1], messages[-1]["content"]))

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
        return "text", {**body, "prompt": _encode(messages, self.tokenizer, self._preamble), "extra_body": extra}


def _stream_chunks(teacher, kind, body, stopped):
    """Yield the chunks of one streamed completion until `stopped()`; closing this closes the connection.

    The request runs in a thread with an event loop of its own. A blocking client could not be stopped while it waits
    for the first word: closing a socket does not wake the thread that reads from it. Cancelling a task does.
    Raises what went wrong at the endpoint as CourseError.
    """
    arrived, loop = queue.SimpleQueue(), asyncio.new_event_loop()

    async def fetch():
        async with teacher.client() as client:
            create = (client.chat.completions if kind == "chat" else client.completions).create
            while True:
                adapted = teacher.adapted(kind, body)
                try:
                    stream = await create(model=teacher.model, stream=True, **adapted)
                    break
                except openai.APIStatusError as error:
                    if not teacher.learn(error, adapted):
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
            if isinstance(item, openai.OpenAIError) and not began:
                with contextlib.suppress(openai.OpenAIError), explained(teacher):
                    raise item
            if isinstance(item, BaseException):
                raise CourseError(
                    f"The reply from {teacher.base_url} broke off ({describe(item)}). Check the endpoint and the "
                    "network, and ask again."
                ) from item
            began = True
            yield item
    finally:
        with contextlib.suppress(RuntimeError):  # its loop has ended
            loop.call_soon_threadsafe(task.cancel)


def side_by_side(sessions: list[Conversation], jobs: list, ask: Callable) -> Iterator[tuple]:
    """Yield (place, ask(session, job)) of each of `jobs`, as they finish; place: that of the job in the list.

    sessions : each does one job at a time; an endpoint with as many slots rewards it. Whatever ends this early (an
    error, an interrupt, a caller who has had enough) also stops the replies that are under way, and no other is begun.
    """
    free = queue.SimpleQueue()
    for session in sessions:
        free.put(session)

    def one(job):
        session = free.get()
        try:
            return ask(session, job)
        finally:
            free.put(session)

    with ThreadPoolExecutor(len(sessions)) as pool:
        places = {pool.submit(one, job): place for place, job in enumerate(jobs)}
        try:
            for done in as_completed(places):
                yield places[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for session in sessions:
                session.stop()
            raise


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

    name     : a key of RELEASED. dtype : as in models.load; "int8" halves the memory again (GPU).
    folder   : None fetches from the model hub. A folder holds the same under the last parts of the hub's names, such
               as `llama-7b/` and `baize-lora-7B/`.
    settings : of the ChatSession.
    Raises CourseError for an unknown name, or where weights can't be read.
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
