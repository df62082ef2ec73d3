"""Self-chat: a chat model talks to itself about a seed, and the dialogue is kept.

Source: Baize (arXiv 2304.01196), section 3; the open user header is the idea of Magpie (arXiv 2406.08464).
"""

import asyncio
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import openai

from . import common, transcript
from .budget import Estimate, text_tokens
from .client import Budget, Limits, ask_all
from .common import CourseError, Journal
from .corpus import Dialogue
from .faults import Faulty, describe, kind_of
from .seeds import Seed
from .teacher import OPENAI_URL, Teacher
from .transcript import ChatFormat

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

# Which prompts shape a dialogue: only those must agree between two runs on one file.
STRATEGIES = {"open-header": ("persona",), "two-role": ("persona", "human_prompt"), "transcript": ("prompt",)}


@dataclass(frozen=True)
class Settings:
    """What shapes a dialogue. Two corpora made with different settings are never mixed in one file."""

    max_turns: int = 3  # exchanges (a question and its answer) per dialogue, at most
    answer_tokens: int = 96  # per assistant message, at most
    question_tokens: int = 40  # per human message, at most
    persona: str = PERSONA  # system prompt under which the assistant answers
    prompt: str = TRANSCRIPT_PROMPT  # {seed} and {max_turns} are filled in
    human_prompt: str = HUMAN_PROMPT  # {seed} and {transcript} are filled in; names [END]
    language: str = ""  # to write in, as one would say it: "French"

    @classmethod
    def of(cls, profile):
        """Take the settings of a profile."""
        return cls(profile.max_turns, profile.answer_tokens, profile.question_tokens)

    def in_language(self, text):
        """Write before a prompt which language is asked for."""
        return f"Write in {self.language}. {text}" if self.language else text


async def make_dialogue(asker, seed, settings, strategy):
    """Return (messages, end): one dialogue about a seed, and why it ended; no messages where nothing whole came.

    end : "max_turns", "empty" (no answer), "length" (no whole sentence within the limit), "thoughts" (none beside
    them), "context" (the chat outgrew what the endpoint reads), "content_filter", "refusal: …"; see `next_question`.
    """
    if strategy == "transcript":
        messages, room = transcript_messages(seed, settings)
        text, finish, *_ = await asker.chat(messages, room)
        return read_transcript(text, finish, settings)
    ask = ask_open_header if strategy == "open-header" else ask_as_human
    system = [{"role": "system", "content": settings.in_language(settings.persona)}]
    messages = [{"role": "user", "content": transcript.escape(seed.text)}]
    while True:
        try:
            answer, finish, *_ = await asker.chat(system + messages, settings.answer_tokens)
            message = {"role": "assistant", "content": answer}
            if finish == "length":
                message = _trimmed(message)
                asker.usage["trimmed"] = asker.usage.get("trimmed", 0) + 1
            if not message["content"] or finish == "content_filter":
                return messages[:-1], "empty" if finish == "stop" else finish
            messages.append(message)
            if len(messages) == 2 * settings.max_turns:
                return messages, "max_turns"
            said, finish, *_ = await ask(asker, seed, settings, system + messages)
        except (openai.APIError, Faulty) as error:
            kind, whole = kind_of(error), messages[: len(messages) // 2 * 2]
            if not whole or kind not in ("context", "filter"):
                raise  # at the first request there is nothing to keep; after another fault the next run goes on here
            return whole, "context" if kind == "context" else "content_filter"
        question, end = next_question(said, finish, messages)
        if end:
            return messages, end
        messages.append({"role": "user", "content": question})


async def ask_open_header(asker, seed, settings, messages):
    """Return the human's next words by a prompt that ends in an opened user message."""
    form = asker.teacher.chat_format
    prompt = form.open_user_header(messages)
    return await asker.complete(prompt, settings.question_tokens, stop=[*form.stop, "\n\n"])


async def ask_as_human(asker, seed, settings, messages):
    """Return the human's next words by another prompt to the same model, as Baize's second version did."""
    names = {"user": "[Human]", "assistant": "[AI]"}
    # What was said cannot pass for a role marker.
    talk = [f"{names[m['role']]} {transcript.escape(m['content'])}" for m in messages[1:]]
    text = _filled(settings.human_prompt, seed, settings, transcript="\n".join(talk))
    return await asker.chat([{"role": "user", "content": text}], settings.question_tokens, stop=["[AI]"])


def transcript_messages(seed, settings):
    """Return (messages to send, tokens that the reply may have) of the one-request transcript."""
    room = settings.max_turns * (settings.answer_tokens + settings.question_tokens)
    return [{"role": "user", "content": _filled(settings.prompt, seed, settings)}], room


def read_transcript(text, finish, settings):
    """Return (messages, end) of a teacher's transcript, one request for the whole dialogue: Baize's first version.

    An answer that hit the token limit is trimmed, or left out with its question.
    end : `finish`, why the teacher stopped, and what the parser cut off.
    """
    parsed = transcript.parse(text)
    messages = [dict(message) for message in parsed.messages]
    said = text.replace("\r\n", "\n").replace("\r", "\n").rstrip()  # as the parser reads it
    if finish == "length" and messages and said.endswith(messages[-1]["content"]):
        messages[-1] = _trimmed(messages[-1])
        if not messages[-1]["content"]:
            messages = messages[:-2]
    return messages[: 2 * settings.max_turns], f"{finish}; {parsed.reason}" if parsed.reason else finish


_OWN_MARK = re.compile(r"^\W*(?:human|user)\b\W*?[\]:]\**\s*", re.IGNORECASE)
_GOODBYE = re.compile(r"^(?:no\b[^?]*\bthank|that(?:'s| is) all\b|(?:ok(?:ay)?\W+)?(?:good)?bye\b)", re.IGNORECASE)


def next_question(text, finish, messages):
    """Return (question, end): what the human said, tidied, and "" or why the dialogue ends here.

    end : "said_end" ([END], goodbye), "no_question" (none, or not to its end), "repeat" (asked before).
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


def _filled(wording, seed, settings, **parts):
    """A prompt with its gaps filled, in one pass: a brace in a seed or in somebody's wording is no gap."""
    parts |= {"seed": transcript.escape(seed.text), "max_turns": str(settings.max_turns)}
    gaps = re.compile("|".join(re.escape(f"{{{name}}}") for name in parts))
    return gaps.sub(lambda gap: parts[gap.group()[1:-1]], settings.in_language(wording))


def _trimmed(message):
    """An answer that was cut off, up to its last whole sentence. It says so: its end is not one to be learned."""
    return message | {"content": whole_sentences(message["content"]), "trimmed": True}


_SENTENCE_END = re.compile(r"""(?<![0-9])[.!?]["')\]*`]*(?=\s|$)|[。！？]["'」』）]*|```(?=\s*$)""")


def whole_sentences(text):
    """Return a reply that was cut off, up to its last whole sentence or code block; "" where there is none."""
    if text.count("```") % 2:
        text = text[: text.rindex("```")]
    ends = [m.end() for m in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else ""


def choose(strategy: str, teacher: Teacher) -> str:
    """Return the strategy to use. "auto": open-header where the endpoint can carry it out, else transcript.

    An endpoint that we know nothing about is asked (one token); what was found is noted in the teacher.
    Raises CourseError for an unknown name, and for open-header on an endpoint that only chats.
    """
    if strategy not in ("auto", *STRATEGIES):
        raise CourseError(f"There is no strategy {strategy!r}. Choose one of: auto, {', '.join(STRATEGIES)}.")
    if strategy in ("auto", "open-header") and teacher.open_header is None:
        teacher.open_header = False
        # OpenAI's chat models do not continue raw text, and asking is not free.
        if urlsplit(teacher.base_url).hostname != urlsplit(OPENAI_URL).hostname:
            with teacher.client(blocking=True, max_retries=0, timeout=60) as client:
                if found := _probe(client, teacher.model):
                    teacher.open_header, teacher.chat_format = True, found
    if strategy == "auto":
        return "open-header" if teacher.open_header else "transcript"
    if strategy == "open-header" and not teacher.open_header:
        raise CourseError(f"{teacher.model} only chats; open-header needs raw prompts. Use 'two-role' or 'transcript'.")
    return strategy


def _probe(client, model):
    """The ChatFormat of a model whose endpoint shows it (llama.cpp does) and continues a raw prompt; else None."""
    # Contents that no template writes by itself, to see what the template puts around them.
    said = {"qs7s": "system", "qu7u": "user", "qa7a": "assistant", "qn7n": "user"}
    talk = [{"role": role, "content": content} for content, role in said.items()]
    url = str(client.base_url).rstrip("/").removesuffix("/v1") + "/apply-template"
    try:
        shown = client.post(url, body={"messages": talk}, cast_to=object)["prompt"]
        marks = re.split("|".join(said), shown)
        if len(marks) == 5 and client.completions.create(model=model, prompt="One, two,", max_tokens=1).choices:
            return ChatFormat(*marks[:4])
    except (openai.APIError, AttributeError, KeyError, TypeError, ValueError):
        pass  # a wrong key or address shows at the first request
    return None


def estimate(
    seeds: list,
    teacher: Teacher,
    strategy: str = "auto",
    settings: Settings | None = None,
    concurrency: int = 16,
    limits: Limits | None = None,
    batch: bool = False,
) -> Estimate:
    """Bound requests, tokens and dollars of `collect` with the same arguments, and guess at the minutes.

    batch : at the half price of OpenAI's Batch API, which takes up to 24 hours.
    """
    settings, strategy = settings or Settings(), choose(strategy, teacher)
    bounds = [_bound(strategy, seed, settings) for seed in seeds]
    found = Estimate.of(bounds, teacher, len(bounds), concurrency=concurrency, limits=limits)
    return replace(found, usd=found.usd and found.usd / 2, minutes=None) if batch else found


def _bound(strategy, seed, settings):
    """(requests, tokens in, tokens out) of one dialogue, at most."""
    if strategy == "transcript":
        return 1, text_tokens(settings.prompt) + text_tokens(seed.text), transcript_messages(seed, settings)[1]
    persona, said = text_tokens(settings.persona), text_tokens(seed.text)
    # The human's side reads the persona too, or in "two-role" a prompt of its own, which names the topic once more.
    human = persona if strategy == "open-header" else text_tokens(settings.human_prompt) + said
    read = 0
    for turn in range(settings.max_turns):  # each request sends all that was said before
        read, said = read + persona + said, said + settings.answer_tokens + 8
        if turn < settings.max_turns - 1:
            read, said = read + human + said, said + settings.question_tokens + 8
    written = settings.max_turns * settings.answer_tokens + (settings.max_turns - 1) * settings.question_tokens
    return 2 * settings.max_turns - 1, read, written


LONGEST_SEED = 20_000  # characters; the worst case of one that is longer could spend a budget alone


@dataclass
class Report:
    """What a run added to a corpus file."""

    path: Path
    made: int = 0  # dialogues added
    kept: int = 0  # dialogues that were there before
    failed: int = 0  # lines added to `failed.jsonl`
    usage: dict = field(default_factory=dict)  # tokens and requests of what was added
    seconds: float | None = None
    usd: float | None = None  # what the whole file has cost so far; None: price unknown
    stopped: str = ""  # why the run ended before the last seed (a spent budget)
    earlier: list = field(default_factory=list)  # why seeds failed in an earlier run that were not asked again

    def count(self, what, usage):
        """One more of `what` ("made" or "failed"), which cost `usage`."""
        setattr(self, what, getattr(self, what) + 1)
        for key, value in usage.items():
            self.usage[key] = self.usage.get(key, 0) + value

    def __str__(self):
        text = f"{common.show(self.path)}: {self.made} dialogues made, {self.kept} kept from before, {self.failed} "
        text += f"failed; {self.usage.get('completion_tokens', 0):,} tokens written by the teacher"
        text += "" if self.seconds is None else f" in {self.seconds:.0f} s"
        text += f"; ${self.usd:.4f} spent on this file" if self.usd else ""
        text += f"\n{self.stopped}" if self.stopped else ""
        if self.earlier:
            [(reason, _)] = Counter(self.earlier).most_common(1)
            text += f"\nFailed in an earlier run and not asked again: {len(self.earlier)}, most often by: {reason}\n"
            text += "This takes them up: await selfchat.retry_failed(teacher, path), with the options of this call."
        return text

    def write_manifest(self, settings):
        """Write the manifest beside the corpus file: its settings, and that a model wrote it."""
        note = "Generated by a language model. Its statements were not checked and are often wrong."
        facts = {"note": note, "settings": settings, "dialogues": self.made + self.kept}
        common.write_manifest(self.path, "notebooks/02_self_chat.ipynb", **facts)


def settings_record(strategy: str, teacher: Teacher, settings: Settings) -> dict:
    """Return what shapes the dialogues, as the manifest holds it: a file is only continued with the same."""
    about = {"strategy": strategy, "model": teacher.model, "sampling": teacher.sampling}
    names = ("max_turns", "answer_tokens", "question_tokens", "language", *STRATEGIES[strategy])
    return about | {name: getattr(settings, name) for name in names}


def once_each(seeds: list) -> dict:
    """Return {id: seed}. Raises CourseError where one id stands for two texts."""
    found = {}
    for seed in seeds:
        if found.setdefault(seed.id, seed).text != seed.text:
            raise CourseError(f"Two different seeds have the id {seed.id!r}. Give each seed an id of its own.")
    return found


def too_long(seed: Seed) -> str:
    """Return why a seed is not sent, or ""."""
    long = len(seed.text) > LONGEST_SEED
    return f"the seed has {len(seed.text):,} characters, at most {LONGEST_SEED:,} are sent" if long else ""


def dialogue_record(seed, strategy, model, messages, usage, end) -> dict:
    """Return the corpus line of a finished dialogue."""
    return asdict(Dialogue(seed.id, seed.text, seed.source, seed.license, strategy, model, messages, usage, end))


def failure_record(seed, reason, usage) -> dict:
    """Return the line in failed.jsonl of a seed that gave no dialogue."""
    about = {"id": seed.id, "seed": seed.text, "source": seed.source, "license": seed.license}
    return about | {"reason": reason, "usage": usage}


def failures_path(path: str | Path) -> Path:
    """Return where failures are recorded: `failed.jsonl` beside `corpus.jsonl`, `<stem>.failed.jsonl` beside others."""
    path = Path(path)
    return path.with_name("failed.jsonl" if path.stem == "corpus" else f"{path.stem}.failed.jsonl")


async def collect(
    seeds: list,
    teacher: Teacher,
    path: str | Path,
    strategy: str = "auto",
    settings: Settings | None = None,
    budget: Budget | None = None,
    limits: Limits | None = None,
    concurrency: int = 16,
    progress: bool = True,
    retry: bool = False,
) -> Report:
    """Make one dialogue per seed and append each to `path` as soon as it is finished.

    Run it again after any stop: what is done is skipped, and nothing that was answered is asked again.
    A seed that gives no dialogue is recorded in `failed.jsonl` beside the corpus; `retry` takes those up.
    strategy : see `choose`. budget : never exceeded. concurrency : dialogues under way at the same time.
    """
    settings, budget, path = settings or Settings(), budget or Budget(), Path(path)
    strategy, seeds = choose(strategy, teacher), once_each(seeds).values()
    shaped_by = settings_record(strategy, teacher, settings)

    async def work(seed, asker):
        asker.attempt = len(failed[seed.id])
        if reason := too_long(seed):
            raise ValueError(reason)
        messages, end = await make_dialogue(asker, seed, settings, strategy)
        if not messages:
            asker.forget()
            raise ValueError(f"no whole exchange ({end})")
        corpus.write(dialogue_record(seed, strategy, teacher.model, messages, asker.usage, end))
        report.count("made", asker.usage)
        await corpus.durable()

    async def on_failed(seed, asker, error):
        failures.write(failure_record(seed, describe(error), asker.usage))
        report.count("failed", asker.usage)
        await failures.durable()

    with Journal(path, shaped_by) as corpus, Journal(failures_path(path)) as failures:
        done, failed = corpus.ids(), defaultdict(list)
        for id, reason in failures.records(lambda record: (record["id"], record.get("reason", "")), "line with an id"):
            failed[id].append(reason)
        left = [seed for seed in seeds if seed.id not in done]
        todo = [seed for seed in left if retry or seed.id not in failed]
        if budget.dialogues is not None:
            todo = todo[: max(0, budget.dialogues - len(done))]
        report = Report(path, kept=len(done))
        report.earlier = [] if retry else [failed[seed.id][-1] for seed in left if seed.id in failed]
        report.write_manifest(shaped_by)
        options = {"budget": budget, "limits": limits, "concurrency": concurrency}
        options |= {"finished": done, "on_failed": on_failed, "progress": "dialogues" if progress else ""}
        try:
            asked = await ask_all(todo, work, teacher, path, **options)
        except asyncio.CancelledError:  # an interrupted cell; Jupyter shows it as a long traceback
            kept = report.kept + report.made
            print(f"Interrupted: {kept} dialogues are in {common.show(path)}. Run this again to go on.")
            raise
        report.seconds, report.usd, report.stopped = asked.seconds, asked.usd, asked.stopped
        report.write_manifest(shaped_by)
    return report


async def retry_failed(teacher: Teacher, path: str | Path, **options) -> Report:
    """Take up the seeds of `failed.jsonl` that have no dialogue yet; options are those of `collect`.

    A seed whose endpoint failed goes on where it stopped; one whose answers were useless is asked afresh.
    """
    with Journal(failures_path(path)) as failures:
        lines = list(failures.records())
    seeds = [Seed(r["id"], r["seed"], r.get("source", ""), r.get("license", "")) for r in lines]
    return await collect(seeds, teacher, path, retry=True, **options)
