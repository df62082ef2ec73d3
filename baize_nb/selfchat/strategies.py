"""How one dialogue is made from one seed: three strategies.

Knows: the prompts, who speaks when, and when a dialogue is over. Does not know: files, money, many seeds at once.
Each strategy is a coroutine `(line, seed, settings) -> (messages, end)`. It depends on nothing but the seed, the
settings and the replies that `line` hands it, so a dialogue that was cut off is resumed by replaying those replies.
Built in notebook 02. Source: Baize (arXiv 2304.01196), section 3; the open user header is the idea of Magpie.
"""

import re
from dataclasses import asdict, dataclass

import openai

from .. import transcript

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

END = "[END]"
HUMAN_PROMPT = """\
A human and an AI assistant chat with each other about this topic:

{seed}

The human asks short questions, stays with the topic, and never answers. Here is their chat so far. Write what the
human says next: one question that follows from the last answer, and nothing else.
If nothing about the topic is left to ask, write only [END].

{transcript}
[Human]"""

# Which settings shape a dialogue depends on the strategy; only those must agree between two runs on one file.
_ALWAYS = ("max_turns", "answer_tokens", "question_tokens", "language")
_PROMPTS = {"open-header": ("persona",), "two-role": ("persona", "human_prompt"), "transcript": ("prompt",)}


@dataclass(frozen=True)
class Settings:
    """What shapes a dialogue. Two corpora made with different settings are never mixed in one file.

    max_turns       : exchanges (a question and its answer) per dialogue, at most.
    answer_tokens   : tokens per assistant message, at most.
    question_tokens : tokens per human message, at most.
    persona         : system prompt under which the assistant answers.
    prompt          : wording of the one-request transcript; {seed} and {max_turns} are filled in.
    human_prompt    : wording for the human of "two-role"; {seed} and {transcript} are filled in. It should name
                      [END] as the word for "nothing left to ask".
    language        : language to write in, as one would say it ("French"); "" says nothing about it.
    """

    max_turns: int = 3
    answer_tokens: int = 96
    question_tokens: int = 40
    persona: str = PERSONA
    prompt: str = TRANSCRIPT_PROMPT
    human_prompt: str = HUMAN_PROMPT
    language: str = ""

    @classmethod
    def of(cls, profile):
        """The settings of a profile."""
        return cls(profile.max_turns, profile.answer_tokens, profile.question_tokens)

    def record(self, strategy):
        """What shapes the dialogues of `strategy`, as a plain dictionary for the manifest."""
        return {name: value for name, value in asdict(self).items() if name in _ALWAYS + _PROMPTS[strategy]}


async def open_header(line, seed, settings):
    """(messages, end): two requests per turn. The seed is the first question.

    The assistant answers by a chat completion. For the human, the prompt stops inside an opened user message, and
    a model that has read millions of chats writes what a user says next. See `_take_turns` for `end`.
    """

    async def ask(system, messages):
        marks = line.teacher.chat_format
        prompt = marks.open_user_header(system + messages)
        return await line.complete(prompt, settings.question_tokens, stop=[*marks.stop, "\n\n"])

    return await _take_turns(line, seed, settings, ask)


async def two_role(line, seed, settings):
    """(messages, end): two chat requests per turn, for endpoints that only chat. The seed is the first question.

    The assistant sees a plain chat. The human is the same model under another prompt, which repeats the topic at
    every turn and shows the transcript so far. Baize's second version worked this way.
    """

    async def ask(_system, messages):
        text = _filled(settings.human_prompt, seed, settings, transcript=_plain(messages))
        return await line.chat([{"role": "user", "content": text}], settings.question_tokens, stop=["[AI]"])

    return await _take_turns(line, seed, settings, ask)


async def transcript_request(line, seed, settings):
    """(messages, end): one request for the whole dialogue, then parsed. Baize's first version worked this way."""
    messages, room = transcript_messages(seed, settings)
    text, finish = await line.chat(messages, room)
    return read_transcript(text, finish, settings)


STRATEGIES = {"open-header": open_header, "two-role": two_role, "transcript": transcript_request}


def transcript_messages(seed, settings):
    """(messages to send, tokens that the reply may have) of the one-request transcript."""
    room = settings.max_turns * (settings.answer_tokens + settings.question_tokens)
    return [{"role": "user", "content": _filled(settings.prompt, seed, settings)}], room


def read_transcript(text, finish, settings):
    """(messages, end) of a teacher's transcript; `finish` is why it stopped.

    An answer that hit the token limit is cut back to its last whole sentence, or left out with its question.
    end is "stop", "length" or "content_filter", and what the parser cut off is added to it.
    """
    parsed = transcript.parse(text)
    messages = [dict(message) for message in parsed.messages]
    said = text.replace("\r\n", "\n").replace("\r", "\n").rstrip()  # as the parser reads it
    if finish == "length" and messages and said.endswith(messages[-1]["content"]):
        messages[-1]["content"] = whole_sentences(messages[-1]["content"])
        if not messages[-1]["content"]:
            messages = messages[:-2]
    return messages[: 2 * settings.max_turns], f"{finish}; {parsed.reason}" if parsed.reason else finish


async def _take_turns(line, seed, settings, ask):
    """(messages, end): the assistant answers, `ask(system, messages)` gives the next question, and so on.

    end is why it stopped: "max_turns"; "no_question" (the human had nothing to ask, or never came to the point);
    "said_end" (the human wrote [END] or said goodbye); "repeat" (asked the same again); "length" (no whole
    sentence within the limit); "empty" (no answer); "content_filter"; "context" (the chat outgrew what the endpoint
    reads).
    """
    system = [{"role": "system", "content": _in_language(settings.persona, settings)}]
    messages = [{"role": "user", "content": transcript.escape(seed.text)}]
    while True:
        try:
            answer, finish = await line.chat(system + messages, settings.answer_tokens)
            if finish == "length":
                answer = whole_sentences(answer)
                line.usage["trimmed"] = line.usage.get("trimmed", 0) + 1
            if not answer or finish == "content_filter":
                return messages[:-1], finish if finish in ("length", "content_filter") else "empty"
            messages.append({"role": "assistant", "content": answer})
            if len(messages) == 2 * settings.max_turns:
                return messages, "max_turns"
            question, end = next_question(*await ask(system, messages), messages)
        except openai.BadRequestError:
            whole = messages[: len(messages) // 2 * 2]
            if not whole:
                raise  # refused at the first request: nothing to keep, and the reason is worth a record
            return whole, "context"
        if end:
            return messages, end
        messages.append({"role": "user", "content": question})


_OWN_MARK = re.compile(r"^\W*(?:human|user)\b\W*?[\]:]\**\s*", re.IGNORECASE)
_GOODBYE = re.compile(r"^(?:no\b[^?]*\bthank|that(?:'s| is) all\b|(?:ok(?:ay)?\W+)?(?:good)?bye\b)", re.IGNORECASE)


def next_question(text, finish, messages):
    """(question, end): what the human said, tidied, and "" or why the dialogue ends here.

    A mark that the model put before its words is taken away; thanks without a question are a goodbye.
    """
    question = _OWN_MARK.sub("", text).strip()
    if END in question or _GOODBYE.match(question) or ("?" not in question and re.match(r"thank", question, re.I)):
        return "", "said_end"
    if finish == "content_filter":
        return "", "content_filter"
    if finish == "length" or not re.search(r"\w", question):
        return "", "no_question"
    if any(question.casefold() == m["content"].casefold() for m in messages):
        return "", "repeat"
    return question, ""


def _plain(messages):
    """The chat so far as a transcript. What was said cannot pass for a role marker."""
    names = {"user": "[Human]", "assistant": "[AI]"}
    return "\n".join(f"{names[m['role']]} {transcript.escape(m['content'])}" for m in messages)


def _filled(wording, seed, settings, **parts):
    """A prompt with its gaps filled. Not `str.format`: a brace in a seed or in somebody's wording is no gap.

    One pass, so that a seed which itself says "{transcript}" gets nothing filled in.
    """
    parts |= {"seed": transcript.escape(seed.text), "max_turns": str(settings.max_turns)}
    gaps = re.compile("|".join(re.escape(f"{{{name}}}") for name in parts))
    return gaps.sub(lambda gap: parts[gap.group()[1:-1]], _in_language(wording, settings))


def _in_language(text, settings):
    return f"Write in {settings.language}. {text}" if settings.language else text


_SENTENCE_END = re.compile(r"""(?<![0-9])[.!?]["')\]*`]*(?=\s|$)|[。！？]["'」』）]*|```(?=\s*$)""")


def whole_sentences(text):
    """The beginning of a reply that was cut off at the token limit, up to its last whole sentence ("" if none).

    A code block that was cut off is left out as a whole.
    """
    if text.count("```") % 2:
        text = text[: text.rindex("```")]
    ends = [m.end() for m in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else ""
