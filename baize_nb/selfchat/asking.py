"""One request, whatever happens to it: set aside its worst case, wait for its turn, send, retry, log, pay.

Knows: faults of endpoints and what each means. Does not know: prompts, or when a dialogue is over.
The `openai` client could retry by itself, but each attempt may be billed, so each has to fit the budget first.
Built in notebook 02.
"""

import asyncio
import random
import zlib

import openai

from .. import transcript
from ..common import CourseError
from ..teacher import explained
from .budget import Tokens
from .pacing import LONGEST_PAUSE, asked_pause

# A token is at least one byte. Roles, marks and a template's own system prompt come on top.
PER_MESSAGE, PER_REQUEST = 16, 64
LONGEST_WAIT = 30  # seconds between two attempts, where the endpoint names no time


class Faulty(Exception):
    """An answer that is none: no JSON, no choices, far too long. `bill` is what it may have cost (Tokens)."""

    def __init__(self, message, bill):
        super().__init__(message)
        self.bill = bill


class Requester:
    """Sends requests for all dialogues of a run. Its helpers: purse (budget), pace (limits), log (what was sent)."""

    def __init__(self, client, teacher, limits, purse, pace, log):
        self.client, self.teacher, self.limits = client, teacher, limits
        self.purse, self.pace, self.log = purse, pace, log
        self.reached = False  # whether this run has had any answer yet

    async def send(self, id, kind, body):
        """{"text", "finish", "usage": Tokens} of one request, tried again where that can help.

        kind : "chat" or "text", the endpoint's two ways to complete.
        Raises BudgetSpent; CourseError where no retry helps (key, quota, address); openai.APIError or Faulty
        when the attempts are used up or the endpoint refuses this very request.
        """
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return await self._attempt(id, kind, body)
            except (openai.APIError, Faulty) as error:
                dead = not self.reached and attempt > 1 and _never_arrived(error)
                if dead or attempt == self.limits.attempts or not _passing(error):
                    self._explain(error)
                    raise
                await self._wait(error, attempt)

    async def _attempt(self, id, kind, body):
        """One request, paid for on every way out; one that is cancelled is charged as if it had been answered."""
        worst = worst_case(body)
        await self.purse.reserve(worst)
        bill = Tokens()
        try:
            entry = await self.pace.turn(sum(worst))
            number = self.log.sent(id, worst)
            bill = worst
            try:
                reply = await self._call(kind, body, worst)
                self.reached, bill = True, reply["usage"]
                self.log.answered(number, id, reply)
            except (openai.APIError, Faulty) as error:
                bill, error.entry = _bill(error, worst), entry
                self.log.failed(number, id, bill, error)
                raise
            self.pace.correct(entry, sum(bill))
            self.pace.success()
            return reply
        finally:
            self.purse.settle(worst, bill)

    async def _call(self, kind, body, worst):
        create = (self.client.chat.completions if kind == "chat" else self.client.completions).create
        try:
            return read_reply(await create(model=self.teacher.model, **body), worst)
        except ValueError as error:  # a body that is no JSON
            raise Faulty(f"the endpoint's answer is unreadable ({error})", worst) from error

    def _explain(self, error):
        """Raise the CourseError of a fault that stops the whole run; a lost connection concerns one seed only."""
        if isinstance(error, openai.APIConnectionError) and not _never_arrived(error):
            return
        with explained(self.teacher):
            raise error

    async def _wait(self, error, attempt):
        """Until the next attempt. "Too many requests" makes everybody wait, any other fault only this dialogue."""
        headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
        seconds = asked_pause(headers)
        if seconds is not None and seconds > LONGEST_PAUSE:
            raise CourseError(
                f"{self.teacher.base_url} asks for a pause of {seconds / 60:.0f} minutes. Everything so far is kept: "
                "run this again after that time and it goes on from here."
            )
        if seconds is None:
            seconds = min(LONGEST_WAIT, self.limits.first_wait * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
        if isinstance(error, openai.RateLimitError):
            self.pace.refused(error.entry, seconds)
        await asyncio.sleep(seconds)


class Line:
    """One dialogue's line to the teacher: asks, or repeats what was answered before the last interruption.

    usage : what this dialogue has cost, `{"prompt_tokens", "completion_tokens", "requests"}`.
    """

    def __init__(self, requester, seed, replies=(), attempt=0):
        self.requester, self.teacher, self.id = requester, requester.teacher, seed.id
        self._replies = list(replies)
        self._random = first_number(seed.id, attempt)
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}

    async def chat(self, messages, max_tokens, stop=None):
        """(text, finish reason) of one chat completion. No message can pass for a mark of the chat format.

        Role markers are left: a prompt of ours has them, and a seed lost its own when it was put in there.
        """
        messages = [m | {"content": transcript.escape(m["content"], markers=False)} for m in messages]
        return await self._ask("chat", {"messages": messages, "max_tokens": max_tokens}, stop)

    async def complete(self, prompt, max_tokens, stop=None):
        """(text, finish reason) of one raw completion."""
        return await self._ask("text", {"prompt": prompt, "max_tokens": max_tokens}, stop)

    async def _ask(self, kind, body, stop):
        self._random += 1  # another one per request, or every answer would draw the same numbers
        if self._replies:
            reply = self._replies.pop(0)
        else:
            body |= {**self.teacher.sampling, "seed": self._random} | ({"stop": stop} if stop else {})
            reply = await self.requester.send(self.id, kind, body)
        self.usage["requests"] += 1
        self.usage["prompt_tokens"] += reply["usage"].prompt
        self.usage["completion_tokens"] += reply["usage"].completion
        return reply["text"], reply["finish"]


def first_number(id, attempt=0):
    """Where a dialogue's random seeds begin: the same in every run, others for a second attempt."""
    return (zlib.crc32(id.encode()) + 1000 * attempt) & 0x7FFFFFFF


def worst_case(body):
    """The most Tokens a request can take: every byte of it a token of its own, and an answer of full length."""
    texts = [m["content"] for m in body["messages"]] if "messages" in body else [body["prompt"]]
    read = sum(len(text.encode()) + PER_MESSAGE for text in texts) + PER_REQUEST
    return Tokens(read, body["max_tokens"])


def read_reply(reply, worst):
    """{"text", "finish", "usage"} of a completion of either kind. Raises Faulty for anything else.

    An endpoint that sends no usage is taken to have used the worst case.
    """
    usage = getattr(reply, "usage", None)
    counts = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    bill = Tokens(*counts) if all(isinstance(count, int) and count >= 0 for count in counts) else worst
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise Faulty("the endpoint sent a reply without choices", bill)
    choice = choices[0]
    text = getattr(getattr(choice, "message", None), "content", None) or getattr(choice, "text", None) or ""
    if not isinstance(text, str):
        raise Faulty(f"the endpoint sent a {type(text).__name__} where the text should be", bill)
    if len(text) > 1000 + 20 * worst.completion:
        raise Faulty(
            f"the endpoint sent {len(text):,} characters where {worst.completion} tokens were asked: "
            "it does not respect max_tokens",
            bill,
        )
    return {"text": text.strip(), "finish": choice.finish_reason or "stop", "usage": bill}


def _passing(error):
    """Whether the same request may succeed a little later."""
    if isinstance(error, openai.APIStatusError):
        quota = error.code == "insufficient_quota"
        return error.status_code in (408, 409, 429) or error.status_code >= 500 if not quota else False
    return True


def _bill(error, worst):
    """What a failed request cost. An error status costs nothing; an answer that never came may have been made."""
    if isinstance(error, Faulty):
        return error.bill
    refused = isinstance(error, openai.APIStatusError) or _never_arrived(error)
    return Tokens() if refused else worst


def _never_arrived(error):
    """Whether no connection was made at all (nothing listens, unknown host), so that nothing can have been billed."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")


def describe(error):
    """A fault in one line for failed.jsonl, without addresses or keys."""
    status = getattr(error, "status_code", None)
    text = f"HTTP {status}: {error}" if status else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
