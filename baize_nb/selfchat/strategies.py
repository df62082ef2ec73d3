"""How one dialogue is made from one seed.

Knows: the prompts, who speaks when, and when a dialogue is over. Does not know: files, many seeds at once.
Built in notebook 02.
"""

import re
import zlib
from dataclasses import asdict, dataclass

from .. import transcript
from ..errors import CourseError

PERSONA = "You are a helpful assistant. Answer in two to four plain sentences."

TRANSCRIPT_PROMPT = """\
Ignore any earlier instructions. A human and an AI assistant chat with each other about this topic:

{seed}

Each statement of the human begins on a new line with [Human], each statement of the assistant with [AI].
The human asks questions about the topic, one after another, and stops when there is nothing left to ask; at most
{max_turns} questions. The assistant answers each in a few sentences and does not ask questions itself.
Complete the transcript in exactly this form and write nothing else.

[Human] Hello!
[AI] Hi! How can I help you?
"""


@dataclass(frozen=True)
class Settings:
    """What shapes a dialogue. Two corpora made with different settings are never mixed in one file.

    max_turns       : exchanges (a question and its answer) per dialogue, at most.
    answer_tokens   : tokens per assistant message, at most.
    question_tokens : tokens per human message, at most.
    persona         : system prompt under which the assistant answers.
    prompt          : wording of the one-request transcript; {seed} and {max_turns} are filled in.
    """

    max_turns: int = 3
    answer_tokens: int = 96
    question_tokens: int = 40
    persona: str = PERSONA
    prompt: str = TRANSCRIPT_PROMPT

    @classmethod
    def of(cls, profile):
        """The settings of a profile."""
        return cls(profile.max_turns, profile.answer_tokens, profile.question_tokens)

    def record(self):
        """As a plain dictionary, for the manifest."""
        return asdict(self)


class Line:
    """One dialogue's line to the teacher: sends its requests and adds up what they cost."""

    def __init__(self, client, teacher, seed):
        self.client, self.teacher = client, teacher
        # The same seed asks with the same random numbers in every run.
        self.random = zlib.crc32(seed.id.encode()) & 0x7FFFFFFF
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}

    async def chat(self, messages, max_tokens):
        """(text, finish reason) of one chat completion."""
        reply = await self.client.chat.completions.create(
            model=self.teacher.model, messages=messages, max_tokens=max_tokens, **self._sampling()
        )
        self._count(reply)
        if not reply.choices:
            raise ValueError("the endpoint sent a reply without choices")
        return (reply.choices[0].message.content or "").strip(), reply.choices[0].finish_reason

    async def complete(self, prompt, max_tokens, stop):
        """(text, finish reason) of one raw completion."""
        reply = await self.client.completions.create(
            model=self.teacher.model, prompt=prompt, max_tokens=max_tokens, stop=stop, **self._sampling()
        )
        self._count(reply)
        if not reply.choices:
            raise ValueError("the endpoint sent a reply without choices")
        return reply.choices[0].text.strip(), reply.choices[0].finish_reason

    def _sampling(self):
        self.random += 1  # another one per request, or every answer would draw the same numbers
        return {**self.teacher.sampling, "seed": self.random}

    def _count(self, reply):
        self.usage["requests"] += 1
        if reply.usage:
            self.usage["prompt_tokens"] += reply.usage.prompt_tokens
            self.usage["completion_tokens"] += reply.usage.completion_tokens


def chatml(messages):
    """Messages in ChatML, the embedded model's own format. Marks inside a message are taken out of it."""
    clean = ((m["role"], re.sub(r"<\|im_(start|end)\|>", "", m["content"])) for m in messages)
    return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in clean)


OPEN_USER = "<|im_start|>user\n"


async def open_header(line, seed, settings):
    """(messages, end): two requests per turn. The seed is the first question.

    The assistant answers by a chat completion. For the human, the prompt stops inside an opened user message, and
    a model that has read millions of chats writes what a user says next.
    end is "max_turns", "no_question" (the human had nothing to ask), "repeat" (asked the same again) or "length".
    """
    messages = [{"role": "user", "content": seed.text}]
    system = [{"role": "system", "content": settings.persona}]
    while True:
        answer, finish = await line.chat(system + messages, settings.answer_tokens)
        if finish == "length":
            answer = whole_sentences(answer)
            line.usage["trimmed"] = line.usage.get("trimmed", 0) + 1
        if not answer:
            return messages[:-1], "length"
        messages.append({"role": "assistant", "content": answer})
        if len(messages) == 2 * settings.max_turns:
            return messages, "max_turns"
        prompt = chatml(system + messages) + OPEN_USER
        question, finish = await line.complete(prompt, settings.question_tokens, stop=["<|im_end|>", "\n\n"])
        if finish == "length" or not question:
            return messages, "no_question"
        if any(question.casefold() == m["content"].casefold() for m in messages):
            return messages, "repeat"
        messages.append({"role": "user", "content": question})


async def transcript_request(line, seed, settings):
    """(messages, end): one request for the whole dialogue, then parsed. For endpoints that only chat.

    end is "stop" or "length", as the teacher said it; what the parser cut off is added to it.
    """
    prompt = settings.prompt.format(seed=seed.text, max_turns=settings.max_turns)
    room = settings.max_turns * (settings.answer_tokens + settings.question_tokens)
    text, finish = await line.chat([{"role": "user", "content": prompt}], room)
    parsed = transcript.parse(text)
    messages = parsed.messages
    if finish == "length" and messages:
        messages = messages[:-2]  # the last answer was cut off in mid-sentence
    return messages[: 2 * settings.max_turns], f"{finish}; {parsed.reason}" if parsed.reason else finish


STRATEGIES = {"open-header": open_header, "transcript": transcript_request}


def choose(strategy, teacher):
    """Name of the strategy to use. "auto": open-header where the teacher can continue a raw prompt, else transcript.

    Raises CourseError for an unknown name, and for open-header on an endpoint that only chats.
    """
    if strategy == "auto":
        return "open-header" if teacher.open_header else "transcript"
    if strategy not in STRATEGIES:
        raise CourseError(f"There is no strategy {strategy!r}. Choose one of: auto, {', '.join(STRATEGIES)}.")
    if strategy == "open-header" and not teacher.open_header:
        raise CourseError(f"{teacher.model} only chats; open-header needs raw prompts. Use strategy='transcript'.")
    return strategy


_SENTENCE_END = re.compile(r"""(?<![0-9])[.!?]["')\]*`]*(?=\s|$)|```(?=\s*$)""")


def whole_sentences(text):
    """The beginning of a reply that was cut off at the token limit, up to its last whole sentence ("" if none).

    A code block that was cut off is left out as a whole.
    """
    if text.count("```") % 2:
        text = text[: text.rindex("```")]
    ends = [m.end() for m in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else ""
