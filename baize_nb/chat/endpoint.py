"""EndpointSession: a chat with a model behind an OpenAI-compatible endpoint, llama.cpp's included.

Knows: how to ask for a reply there, piece by piece, and how to break it off. Does not know: conversations, or how a
reply is shown. Built in notebook 05.
"""

from ..transcript import escape
from . import streaming
from .conversation import Conversation
from .prompts import BaizePrompt, disarm
from .screen import STOPS

# A reply has a first word: the stop token may come after it only. llama.cpp obeys this grammar (GBNF) token by token:
# white space, one character that is none, then anything.
_SOME_WORD = r"root ::= [ \t\n]* [^ \t\n\x00] [^\x00]*"

# Tokens per byte before the first reply has shown the real number: a little more than any language is likely to need.
_TOKENS_PER_BYTE = 0.4


class EndpointSession(Conversation):
    """One conversation with a model behind an endpoint.

    teacher   : a `teacher.Teacher`: where the endpoint is, and the model's name there.
    tokenizer : given, the model was tuned on Baize text (a merged GGUF that `engine.Engine` serves, say): it continues
                the prompt at /completions. The prompt goes there as token ids, so it is exactly the training text and
                what somebody typed can't become a special token. None: any chat model, asked at /chat/completions.
    context   : tokens of prompt and reply together; the embedded engine has 2048 for each slot.
    The other settings are those of `Conversation`. An endpoint that knows no such penalty gets none where it is 1.
    llama.cpp's counts the last 64 tokens, the prompt's among them.

    Without a tokenizer the size of a prompt is estimated from its bytes and, after the first reply, from what the
    endpoint counted. Errors of the endpoint are raised while the reply is read: CourseError where a person can mend it.
    """

    def __init__(
        self,
        teacher,
        tokenizer=None,
        max_new_tokens=None,
        temperature=1.0,
        top_p=0.95,
        repetition_penalty=1.0,
        seed=0,
        context=2048,
        guard=None,
    ):
        self.teacher, self.tokenizer = teacher, tokenizer
        self._prompt = tokenizer and BaizePrompt(tokenizer)
        self.stops = STOPS if tokenizer else ()  # to another model a marker is a word like any other
        self._rate = _TOKENS_PER_BYTE
        super().__init__(max_new_tokens, temperature, top_p, repetition_penalty, seed, context, guard)

    def settings(self):
        """The settings that shape a reply, as a dictionary that json can write."""
        return {"model": self.teacher.model} | super().settings()

    def _read(self, messages):
        if self._prompt:
            return disarm(messages)
        return [{"role": m["role"], "content": escape(m["content"], markers=False)} for m in messages]

    def _length(self, messages):
        if self._prompt:
            return self._prompt.length(messages, self._preamble)
        return round(self._rate * self._bytes(messages))

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
        counted, finish = 0, None
        with streaming.chunks(self.teacher, kind, body, self._stopping.is_set) as chunks:
            for chunk in chunks:
                usage = getattr(chunk, "usage", None)
                if chunk.choices:
                    choice = chunk.choices[0]
                    finish = choice.finish_reason or finish
                    if text := (choice.text if kind == "text" else choice.delta.content):
                        counted += 1
                        yield text, 1
                if usage and usage.completion_tokens:
                    self._learn(messages, usage.prompt_tokens)
                    yield "", usage.completion_tokens - counted  # a piece can be several tokens
                    counted = usage.completion_tokens
        if finish == "stop":
            yield None, 0

    def _request(self, messages):
        """(kind, body) of the request, sampling parameters included."""
        body = {
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self._dice,
            "stream_options": {"include_usage": True},
        }
        extra = {} if self.repetition_penalty == 1 else {"repeat_penalty": self.repetition_penalty}
        if not self._prompt:
            return "chat", {**self.teacher.sampling, **body, "messages": self._guarded(messages), "extra_body": extra}
        extra |= {"cache_prompt": True, "grammar": _SOME_WORD, "top_k": 0, "min_p": 0}  # top_p alone, as in ChatSession
        return "text", {**body, "prompt": self._prompt.encode(messages, self._preamble), "extra_body": extra}

    def _learn(self, messages, tokens):
        """Remember how many tokens a byte of this talk is, for the next estimate."""
        if tokens:
            self._rate = tokens / max(self._bytes(messages), 1)
