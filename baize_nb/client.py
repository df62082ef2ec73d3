"""One request to an endpoint (retried, within the rate limits and the budget, logged), and many of them at a time.

The `openai` client could retry by itself, but each attempt may be billed, so each has to fit the budget first.
"""

import asyncio
import email.utils
import json
import random
import re
import sys
import time
import zlib
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import openai

from . import transcript
from .budget import Budget, BudgetSpent, BudgetTracker, Limits, Tokens, dollars, price_of, worst_case
from .common import CourseError, Journal, write_text
from .teacher import explained

# ---- not faster than the endpoint allows ----


WINDOW = 60 * 1.02  # seconds; the endpoint's clock starts when a request arrives, ours when it leaves
LONGEST_WAIT = 30  # seconds between two attempts, where the endpoint names no time
LONGEST_PAUSE = 600  # seconds; who asks for more is told to a person, not slept through


class RateLimiter:
    """Lets requests go at most so many, and so many tokens, in any `WINDOW`.

    When the endpoint says "too many" (HTTP 429), everybody waits, and from then on requests leave further apart;
    each success brings them a little closer again.
    """

    def __init__(self, requests=None, tokens=None):
        self.requests, self.tokens = requests, tokens
        self.gap = 0.0  # seconds between two requests, learned
        self._sent = deque()  # [time, tokens] of the requests in the window, oldest first
        self._sum = 0
        self._last = self._until = self._slowed = 0.0
        self._queue = asyncio.Lock()  # first come, first served

    async def turn(self, tokens):
        """Wait until a request of at most `tokens` may leave; return its entry for `correct`."""
        async with self._queue:
            while (wait := self._wait(time.monotonic(), tokens)) > 0:
                await asyncio.sleep(min(wait, 0.25))  # not all at once: a smaller bill may make room meanwhile
            self._last = time.monotonic()
            entry = [self._last, tokens]
            self._sent.append(entry)
            self._sum += tokens
            return entry

    def correct(self, entry, tokens):
        """A request was answered and took `tokens`, not the worst case: others may leave a little closer together."""
        if self._sent and entry[0] >= self._sent[0][0]:
            self._sum += tokens - entry[1]
        entry[1] = tokens
        self.gap = 0.0 if self.gap < 0.002 else self.gap * 0.9

    def refused(self, entry, seconds):
        """The endpoint says "too many": nobody sends for `seconds`; after that, twice as far apart as before.

        Once per crowd: of requests that left together, only the first refusal slows us down.
        """
        now = time.monotonic()
        self._until = max(self._until, now + seconds)
        if entry[0] > self._slowed:
            self._slowed, self.gap = now, min(2.0, max(2 * self.gap, 0.02))

    def _wait(self, now, tokens):
        """Seconds until a request of `tokens` may leave; 0 or less: now."""
        while self._sent and self._sent[0][0] + WINDOW <= now:
            self._sum -= self._sent.popleft()[1]
        wait = max(self._until - now, self._last + self.gap - now)
        full = self.requests is not None and len(self._sent) >= self.requests
        # One request larger than the whole limit goes alone: waiting longer would not make it smaller.
        heavy = self.tokens is not None and self._sent and self._sum + tokens > self.tokens
        if full or heavy:
            wait = max(wait, self._sent[0][0] + WINDOW - now)
        return wait


def asked_pause(headers):
    """Return the seconds that an endpoint asks us to wait, by its headers; None where it does not say.

    Retry-After (seconds or a date, RFC 9110), its variant in milliseconds, or the reset time of an exhausted limit.
    """
    if milliseconds := _number(headers.get("retry-after-ms")):
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is not None:
        seconds = _number(value)
        if seconds is None and (date := email.utils.parsedate_tz(value)):
            seconds = email.utils.mktime_tz(date) - time.time()
        if seconds is not None:
            return max(0.0, seconds)
    resets = [
        _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max(resets, default=None)


def _number(text):
    try:
        return float(text) if 0 <= float(text) < float("inf") else None
    except (TypeError, ValueError):
        return None


def _duration(text):
    """Seconds of a duration such as "6m0s", "1.5s" or "20ms"."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))


# ---- one request ----


class Faulty(Exception):
    """An answer that is none: no JSON, no choices, far too long. `bill` is what it may have cost (Tokens)."""

    def __init__(self, message, bill):
        super().__init__(message)
        self.bill = bill


class Completion(NamedTuple):
    """What an endpoint answered. finish : why it stopped, "stop" or "length" say, or "until". usage : Tokens."""

    text: str
    finish: str
    usage: Tokens


def read_completion(reply, worst):
    """Return the Completion in a reply of either kind. Raises Faulty for anything else.

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
    return Completion(text.strip(), choice.finish_reason or "stop", bill)


def random_seed(id, number, attempt=0):
    """Return the random seed of the `number`-th request for an item: the same in every run, others when asked anew."""
    return ((zlib.crc32(id.encode()) + 1000 * attempt) & 0x7FFFFFFF) + number


def describe(error):
    """Return a fault in one line for failed.jsonl, without addresses or keys."""
    status = getattr(error, "status_code", None)
    text = f"HTTP {status}: {error}" if status else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]


class Sender:
    """Sends the requests of one run. limits : Limits. budget : BudgetTracker. log : RequestLog."""

    def __init__(self, client, teacher, limits, budget, log):
        self.client, self.teacher, self.limits, self.budget, self.log = client, teacher, limits, budget, log
        self.rate = RateLimiter(limits.requests_per_minute, limits.tokens_per_minute)
        self.reached = False  # whether this run has had any answer yet

    async def send(self, id, kind, body, until=None):
        """Return the Completion of one request, tried again where that can help.

        kind : "chat" or "text", the endpoint's two ways to complete. until : see `Asker.complete`.
        Raises BudgetSpent; CourseError where no retry helps (key, quota, address); openai.APIError or Faulty
        when the attempts are used up or the endpoint refuses this very request.
        """
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return await self._attempt(id, kind, body, until)
            except (openai.APIError, Faulty) as error:
                dead = not self.reached and attempt > 1 and _never_arrived(error)
                if dead or attempt == self.limits.attempts or not _passing(error):
                    # A connection that was lost concerns one item only; other faults may stop the whole run.
                    if not isinstance(error, openai.APIConnectionError) or _never_arrived(error):
                        with explained(self.teacher):
                            raise
                    raise
                await self._wait(error, attempt)

    async def _attempt(self, id, kind, body, until):
        """One request, paid for on every way out; one that is cancelled is charged as if it had been answered."""
        worst = worst_case(body)
        await self.budget.reserve(worst)
        bill = Tokens()
        try:
            entry = await self.rate.turn(sum(worst))
            number = self.log.sent(id, worst)
            bill = worst
            try:
                reply = await self.call(kind, body, worst, until)
            except (openai.APIError, Faulty) as error:
                bill, error.entry = _bill(error, worst), entry
                self.log.failed(number, id, bill, error)
                raise
            self.reached, bill = True, reply.usage
            self.log.answered(number, id, reply)
            self.rate.correct(entry, sum(bill))
            return reply
        finally:
            self.budget.pay(worst, bill)

    async def call(self, kind, body, worst, until=None):
        """Return the Completion of one request, sent once."""
        create = (self.client.chat.completions if kind == "chat" else self.client.completions).create
        try:
            if until is None:
                return read_completion(await create(model=self.teacher.model, **body), worst)
            return await self._until(create, body, worst, until)
        except Exception as error:
            # A body that is no JSON, or a stream that broke off: that comes as an error of the HTTP library.
            if not isinstance(error, ValueError) and not type(error).__module__.startswith("httpx"):
                raise
            raise Faulty(f"the endpoint's answer is unreadable ({error})", worst) from error

    async def _until(self, create, body, worst, until):
        """The Completion of a streamed raw completion, broken off once `until` says so."""
        text, finish, pieces, usage = "", "", 0, None
        async with await create(
            model=self.teacher.model, stream=True, stream_options={"include_usage": True}, **body
        ) as stream:
            async for chunk in stream:
                usage = getattr(chunk, "usage", None) or usage
                for choice in chunk.choices or ():
                    text, finish = text + (choice.text or ""), choice.finish_reason or finish
                    pieces += bool(choice.text)
                if until(text):
                    finish = "until"
                    break
        if usage:
            bill = Tokens(usage.prompt_tokens, usage.completion_tokens)
        else:  # broken off: the embedded engine sends a token at a time, others may have written and billed more
            bill = Tokens(worst.prompt, pieces if self.teacher.engine else worst.completion)
        return Completion(text, finish or "stop", bill)

    async def _wait(self, error, attempt):
        """Until the next attempt. "Too many requests" makes everybody wait, any other fault only this item."""
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
            self.rate.refused(error.entry, seconds)
        await asyncio.sleep(seconds)


def _passing(error):
    """Whether the same request may succeed a little later."""
    if isinstance(error, openai.APIStatusError):
        return error.code != "insufficient_quota" and (error.status_code in (408, 409, 429) or error.status_code >= 500)
    return True


def _bill(error, worst):
    """What a failed request cost. An error status costs nothing; an answer that never came may have been made."""
    if isinstance(error, Faulty):
        return error.bill
    return Tokens() if isinstance(error, openai.APIStatusError) or _never_arrived(error) else worst


def _never_arrived(error):
    """Whether no connection was made at all (nothing listens, unknown host), so that nothing can have been billed."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")


# ---- what was asked and answered, on disk, so that nothing is paid for twice ----


def log_path(path):
    """Return where the log of requests for a file lies: `<stem>.requests.jsonl` beside it."""
    return Path(path).with_name(f"{Path(path).stem}.requests.jsonl")


class RequestLog(Journal):
    """Every request for one file on disk, before it is sent and after it is answered; open for appending.

        {"sent": 7, "id": …, "worst": [prompt, completion]}         before the request leaves
        {"got": 7, "id": …, "text": …, "finish": …, "bill": […]}    its answer
        {"got": 7, "id": …, "fault": …, "bill": […]}                or what went wrong
        {"forget": id}                                              these answers were of no use; ask afresh
        {"spent": [prompt, completion]}                             sum of what an earlier run paid

    A request that was sent and never answered, because the process was killed, counts with its worst case.
    finished : ids that need no answers any more; the log is cut down to the others when it is opened.
    Then `spent` holds the Tokens of earlier runs, and `replies` {id: [Completion]}.
    """

    def __init__(self, path, finished):
        super().__init__(log_path(path))
        self.finished, self.spent, self.replies, self._number = finished, Tokens(), {}, 0

    def __enter__(self):
        super().__enter__()
        try:
            self._read()
            self._shorten()
        except BaseException:
            super().__exit__()
            raise
        return self

    def sent(self, id, worst):
        """Note that a request is about to leave; return its number."""
        self._number += 1
        self.write({"sent": self._number, "id": id, "worst": worst})
        return self._number

    def answered(self, number, id, reply):
        """Note the answer to a request."""
        self.write(_answer_line(number, id, reply))

    def failed(self, number, id, bill, error):
        """Note that a request failed, and what it may have cost all the same."""
        self.write({"got": number, "id": id, "fault": describe(error), "bill": bill})

    def _read(self):
        """Add up what was spent and collect the answers that are still of use."""
        replies, under_way = defaultdict(list), {}
        for line in self.records():
            if "sent" in line:
                under_way[line["sent"]] = Tokens(*line["worst"])
            elif "got" in line:
                under_way.pop(line["got"], None)
                bill = Tokens(*line["bill"])
                self.spent = self.spent.plus(bill)
                if "text" in line and line["id"] not in self.finished:
                    replies[line["id"]].append(Completion(line["text"], line["finish"], bill))
            elif "forget" in line:
                replies.pop(line["forget"], None)
            else:
                self.spent = self.spent.plus(Tokens(*line["spent"]))
        for worst in under_way.values():
            self.spent = self.spent.plus(worst)
        self.replies = dict(replies)

    def _shorten(self):
        """Rewrite the log, whole or not at all: the sum of what was paid, and the answers still of use."""
        open_bills, lines = Tokens(), []
        for id, replies in self.replies.items():
            for reply in replies:
                open_bills = open_bills.plus(reply.usage)
                lines.append(_answer_line(0, id, reply))  # no request of this run has that number
        lines.insert(0, {"spent": self.spent.minus(open_bills)})
        self._file.close()
        write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        self._file = self.path.open("ab", buffering=0)


def _answer_line(number, id, reply):
    return {"got": number, "id": id, "text": reply.text, "finish": reply.finish, "bill": reply.usage}


# ---- many items ----


class Asker:
    """Asks for one item; or repeats, in the same order, what was answered before the last interruption.

    usage   : what this item has cost, `{"prompt_tokens", "completion_tokens", "requests"}`.
    attempt : how often the item was tried in earlier runs; another number draws other random seeds.
    """

    def __init__(self, sender, id, replies=()):
        self.teacher, self.id, self.attempt = sender.teacher, id, 0
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}
        self._sender, self._replies = sender, list(replies)

    async def chat(self, messages, max_tokens, stop=None, sampling=None):
        """Return the Completion of a chat. No message can pass for a mark of the chat format.

        sampling : sent instead of the teacher's own sampling and a random seed, {"temperature": 0} say; other
                   parameters of the openai client too, {"extra_body": {…}}.
        Role markers are left: a prompt of ours has them, and a seed lost its own when it was put in there.
        """
        messages = [m | {"content": transcript.escape(m["content"], markers=False)} for m in messages]
        return await self._ask("chat", {"messages": messages, "max_tokens": max_tokens}, stop, sampling)

    async def complete(self, prompt, max_tokens, stop=None, sampling=None, until=None):
        """Return the Completion of a raw prompt, text or a list of token ids.

        until : given, the answer is streamed, and broken off with finish "until" once until(text so far) is true.
        """
        return await self._ask("text", {"prompt": prompt, "max_tokens": max_tokens}, stop, sampling, until)

    def forget(self):
        """Let no later run use the answers so far again: they led to nothing, and would once more."""
        self._sender.log.write({"forget": self.id})

    async def _ask(self, kind, body, stop, sampling, until=None):
        self.usage["requests"] += 1
        if self._replies:
            reply = self._replies.pop(0)
        else:
            if sampling is None:  # another seed per request, or every answer would draw the same numbers
                seed = random_seed(self.id, self.usage["requests"], self.attempt)
                sampling = {**self.teacher.sampling, "seed": seed}
            reply = await self._sender.send(self.id, kind, body | sampling | ({"stop": stop} if stop else {}), until)
        self.usage["prompt_tokens"] += reply.usage.prompt
        self.usage["completion_tokens"] += reply.usage.completion
        return reply


@dataclass
class Asked:
    """What `ask_all` did.

    spent : Tokens of the file so far, earlier runs included. usd : the same in dollars; None: price unknown.
    stopped : "" or why it ended before the last item (a spent budget). seconds : how long it took.
    failed : [(item, reason)], unless `on_failed` took them.
    """

    spent: Tokens
    usd: float | None
    stopped: str = ""
    seconds: float = 0.0
    failed: list = field(default_factory=list)


async def ask_all(
    items, work, teacher, path, *, finished=(), budget=None, limits=None, concurrency=16, on_failed=None, progress=""
):
    """Let `concurrency` workers do `await work(item, asker)` for each item; return `Asked`.

    items     : objects with an `id` of their own.
    work      : asks by `asker.chat` and `asker.complete`, and writes what came of it. Should depend on nothing but the
                item and the answers: after a kill it is called again, and what was answered is not asked again.
    path      : the file that is being made; beside it grows the log of requests. finished : ids that are done in it.
    budget    : a Budget for the whole file, never exceeded. limits : a Limits.
    on_failed : `await on_failed(item, asker, error)` where one item failed: openai.APIError, Faulty or ValueError.
    progress  : what a bar on stdout counts, "dialogues" say; "": no bar.
    Any other error stops all workers and is raised; so CourseError: wrong key, endpoint down, disk full.
    """
    items, limits, budget = list(items), limits or Limits(), budget or Budget()
    with RequestLog(path, finished) as log:
        tracker = BudgetTracker(budget, price_of(teacher, budget.price), log.spent)
        asked = Asked(tracker.spent, tracker.usd)
        if items:
            # No retries by the client: each attempt has to fit the budget.
            async with teacher.client(max_retries=0, timeout=limits.timeout) as client:
                sender = Sender(client, teacher, limits, tracker, log)
                await _work_off(items, work, sender, asked, min(concurrency, len(items)), on_failed, progress)
        asked.spent, asked.usd = tracker.spent, tracker.usd
    return asked


async def _work_off(items, work, sender, asked, concurrency, on_failed, progress):
    """The workers of `ask_all`. The first fatal error stops all."""
    from tqdm import tqdm

    async def worker():
        for item in queue:
            asker = Asker(sender, item.id, sender.log.replies.pop(item.id, ()))
            try:
                await work(item, asker)
            except (openai.APIError, Faulty, ValueError) as error:
                if on_failed:
                    await on_failed(item, asker, error)
                else:
                    asked.failed.append((item, describe(error)))
            bar.set_postfix_str(_so_far(sender.budget, asked.spent, (bar.n + 1) / len(items)), refresh=False)
            bar.update()

    queue, begin = iter(items), time.monotonic()
    # Progress as plain text on stdout: a bar made of widgets would leave its state in the notebook.
    line = f"{{percentage:3.0f}}%|{{bar}}| {{n_fmt}}/{{total_fmt}} {progress} [{{elapsed}}<{{remaining}}{{postfix}}]"
    options = {"file": sys.stdout, "ncols": 110, "disable": not progress, "mininterval": 1, "bar_format": line}
    with tqdm(total=len(items), **options) as bar:
        workers = [asyncio.create_task(worker()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        except BudgetSpent as spent:
            asked.stopped = str(spent)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            asked.seconds = time.monotonic() - begin


def _so_far(budget, before, done):
    """Tokens and dollars so far, and what the whole will cost if it goes on like this. done : share of the items."""
    text = f"{sum(budget.spent):,} tokens"
    if budget.usd:
        fresh = dollars(budget.spent.minus(before), budget.price)
        text += f", ${budget.usd:.3f}, about ${budget.usd + fresh * (1 / done - 1):.2f} in all"
    return text
