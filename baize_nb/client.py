"""One request to an endpoint (retried, within the rate limits and the budget, logged), and many of them at a time.

The `openai` client could retry by itself, but each attempt may be billed, so each has to fit the budget first.
"""

import asyncio
import json
import random
import re
import sys
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import openai

from . import transcript
from .budget import Budget, BudgetSpent, BudgetTracker, Tokens, dollars, price_of, worst_case
from .common import CourseError, Journal, write_text
from .faults import Faulty, explained, kind_of, never_sent, passes, told
from .limits import LONGEST_PAUSE, LONGEST_WAIT, Limits, RateLimiter, asked_pause
from .text import remove_thoughts

# ---- one request ----


class Completion(NamedTuple):
    """What an endpoint answered, its thoughts left out.

    finish : why it stopped: "stop"; "length" (at the token limit), "thoughts" (the same, before the first word of the
             answer); "content_filter"; "refusal: …"; "until".
    """

    text: str
    finish: str
    usage: Tokens


# What endpoints call the reasons for an end; what is none of these, or missing, is a stop.
_FINISH = {
    "length": r"length|max_?(?:output_|completion_|new_)?tokens|model_length|token_limit",
    "content_filter": r"content_?filter\w*|safety|recitation|prohibited_content|blocklist|spii|sensitive|refusal",
    "fault": r"error|\w*_error|abort(?:ed)?|cancel\w*|insufficient_system_resource|malformed\w*",
}


def read_finish(finish) -> str:
    """Return "stop", "length", "content_filter" or "fault" for what an endpoint gives as the reason of an end."""
    finish = str(finish or "").lower().removeprefix("finish_reason_")
    return next((kind for kind, names in _FINISH.items() if re.fullmatch(names, finish)), "stop")


def read_usage(usage, text: str, worst: Tokens) -> Tokens:
    """Return the Tokens that an answer is billed; the worst case where its usage is missing or can't be true.

    Thoughts count too: some endpoints name them in the total only.
    """
    read, wrote, total = (getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion", "total"))
    if not all(type(n) is int and n >= 0 for n in (read, wrote)) or not read or (text and not wrote):
        return worst
    thoughts = getattr(getattr(usage, "completion_tokens_details", None), "reasoning_tokens", None) or 0
    wrote += thoughts if type(thoughts) is int and thoughts > wrote else 0
    return Tokens(read, max(wrote, total - read) if type(total) is int else wrote)


def read_content(message) -> tuple[str, bool]:
    """Return (text, whether there were thoughts) of a message, of a part of a stream or of a raw completion."""
    content = getattr(message, "content", None) or getattr(message, "text", None) or ""
    thoughts = bool(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):  # parts: those of the answer are text
        kinds = [part.get("type", "text") if isinstance(part, dict) else "text" for part in content]
        thoughts = thoughts or any("think" in kind or "reason" in kind for kind in kinds)
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        content = "".join(p for p, kind in zip(parts, kinds, strict=True) if "text" in kind and isinstance(p, str))
    return content, thoughts


def read_completion(reply, worst: Tokens) -> Completion:
    """Return the Completion in a reply of either kind. Raises Faulty for anything else, with what it may have cost."""
    if isinstance(reply, str) and "<" in reply[:100]:
        raise Faulty("the endpoint sent a web page where an answer should be", Tokens())
    error = getattr(reply, "error", None)
    if error:  # under HTTP 200, as routers do
        code = error.get("code") if isinstance(error, dict) else None
        fault = Faulty("", Tokens(), int(code) if str(code).isdigit() and 400 <= int(code) < 600 else None, error)
        fault.args = (f"the endpoint sent an error: {told(fault)[1]}",)
        raise fault
    choices, usage = getattr(reply, "choices", None), getattr(reply, "usage", None)
    if not isinstance(choices, list) or not choices or choices[0] is None:
        # Without choices and usage it is no answer of a model, and nobody bills it.
        made = usage is not None or isinstance(choices, list)
        raise Faulty("the endpoint sent a reply without choices", read_usage(usage, "", worst) if made else Tokens())
    choice = choices[0]
    message = getattr(choice, "message", None) or choice
    raw, thoughts = read_content(message)
    bill = read_usage(usage, raw, worst)
    if not isinstance(raw, str):
        raise Faulty(f"the endpoint sent a {type(raw).__name__} where the text should be", bill)
    if message is choice and not hasattr(choice, "text"):
        raise Faulty("the endpoint sent a choice without a message", bill)
    if len(raw) > 1000 + 20 * worst.completion:
        raise Faulty(
            f"the endpoint sent {len(raw):,} characters where {worst.completion} tokens were asked: "
            "it does not respect max_tokens",
            bill,
        )
    text, finish = remove_thoughts(raw).strip(), read_finish(getattr(choice, "finish_reason", None))
    refusal = getattr(message, "refusal", None)
    if refusal and not text:
        finish = f"refusal: {' '.join(str(refusal).split())[:500]}"
    elif finish == "fault":
        raise Faulty(f"the endpoint broke off its answer ({choice.finish_reason})", bill)
    elif finish == "length" and not text and (thoughts or raw.strip()):
        finish = "thoughts"
    return Completion(text, finish, bill)


def random_seed(id, number, attempt=0):
    """Return the random seed of the `number`-th request for an item: the same in every run, others when asked anew."""
    return ((zlib.crc32(id.encode()) + 1000 * attempt) & 0x7FFFFFFF) + number


def describe(error: Exception) -> str:
    """Return a fault in one line for failed.jsonl, without addresses or keys."""
    status, words, _ = told(error)
    name = "" if type(error) in (Faulty, ValueError) else f"{type(error).__name__}: "
    text = f"HTTP {status}: {words}" if status else f"{name}{words}"
    return " ".join(text.split())[:500]


FIRST_REFUSED = 5  # items in a row, before any answer: then something is wrong that no item can help


class Sender:
    """Sends the requests of one run. limits : Limits. budget : BudgetTracker. log : RequestLog."""

    def __init__(self, client, teacher, limits, budget, log):
        self.client, self.teacher, self.limits, self.budget, self.log = client, teacher, limits, budget, log
        self.rate = RateLimiter(limits.requests_per_minute, limits.tokens_per_minute)
        self.reached, self.refused = False, 0  # whether this run has had any answer yet; items refused before that
        self.longest = 0  # tokens that an answer was billed, at most: some endpoints think beyond the limit
        self._alone = asyncio.Lock()

    async def send(self, id, kind, body, until=None):
        """Return the Completion of one request, tried again where that can help.

        kind : "chat" or "text", the endpoint's two ways to complete. until : see `Asker.complete`.
        Raises BudgetSpent; CourseError where no retry helps (key, quota, model, address); openai.APIError or Faulty
        when the attempts are used up or the endpoint refuses this very request.
        """
        attempt = 1
        while True:
            adapted = self.teacher.adapted(kind, body)
            try:
                if self.budget.capped and not self.reached:
                    async with self._alone:  # until one bill has been seen: it may be far above what was asked for
                        if not self.reached:
                            return await self._attempt(id, kind, adapted, until)
                return await self._attempt(id, kind, adapted, until)
            except (openai.APIError, Faulty) as error:
                if self.teacher.learn(error, adapted):
                    continue
                dead = not self.reached and attempt > 1 and never_sent(error)
                if dead or attempt >= self.limits.attempts or not passes(error):
                    # A connection that was lost concerns one item only; other faults may stop the whole run.
                    if not isinstance(error, openai.APIConnectionError) or never_sent(error):
                        with explained(self.teacher):
                            raise
                    raise
                await self._wait(error, attempt)
                attempt += 1

    async def _attempt(self, id, kind, body, until):
        """One request, paid for on every way out; one that is cancelled is charged as if it had been answered."""
        worst = worst_case(body)
        worst = worst._replace(completion=max(worst.completion, self.longest))
        await self.budget.reserve(worst)
        bill = Tokens()
        try:
            entry = await self.rate.turn(sum(worst))
            number = self.log.sent(id, worst)
            bill = worst
            try:
                reply = await self.call(kind, body, worst, until)
                if reply.finish == "thoughts" and not self.teacher.thinks:
                    self.teacher.thinks = True
                    raise Faulty("the model thinks before it answers, and got no further", reply.usage)
            except (openai.APIError, Faulty) as error:
                bill, error.entry = _bill(error, worst), entry
                self.longest = max(self.longest, bill.completion if isinstance(error, Faulty) else 0)
                self.log.failed(number, id, bill, error)
                raise
            self.reached, bill = True, reply.usage
            self.longest = max(self.longest, bill.completion)
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
            page = str(getattr(error, "doc", "")).lstrip().startswith("<")
            raise Faulty(f"the endpoint's answer is unreadable ({error})", Tokens() if page else worst) from error

    async def _until(self, create, body, worst, until):
        """The Completion of a streamed raw completion, broken off once `until` says so."""
        text, finish, pieces, usage = "", None, 0, None
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        async with await create(model=self.teacher.model, **streamed, **body) as stream:
            async for chunk in stream:
                usage = getattr(chunk, "usage", None) or usage
                for choice in chunk.choices or ():
                    text, finish = text + (choice.text or ""), choice.finish_reason or finish
                    pieces += bool(choice.text)
                if until(text):
                    finish = "until"
                    break
        if usage:
            bill = read_usage(usage, text, worst)
        else:  # broken off: the embedded engine sends a token at a time, others may have written and billed more
            bill = Tokens(worst.prompt, pieces if self.teacher.engine else worst.completion)
        return Completion(text, finish if finish == "until" else read_finish(finish), bill)

    async def _wait(self, error, attempt):
        """Until the next attempt. "Too many requests" makes everybody wait, any other fault only this item."""
        headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
        status, _, text = told(error)
        asked = asked_pause(headers, text)
        if asked is not None and asked > LONGEST_PAUSE:
            length = f"{asked / 60:.0f} minutes" if asked < 172800 else f"{asked / 86400:.0f} days"
            raise CourseError(
                f"{self.teacher.base_url} asks for a pause of {length}. Everything so far is kept: "
                "run this again after that time and it goes on from here."
            )
        seconds = min(LONGEST_WAIT, self.limits.first_wait * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
        if asked is not None:
            # Who asks for no time, or for a moment, may ask so again and again: then ours grows all the same.
            seconds = asked if asked >= 1 else max(asked, seconds)
        if status == 429:
            self.rate.refused(error.entry, seconds)
        await asyncio.sleep(seconds)


def _bill(error, worst):
    """What a failed request cost. An error status costs nothing; an answer that never came may have been made."""
    if isinstance(error, Faulty):
        return error.bill
    return Tokens() if isinstance(error, openai.APIStatusError) or never_sent(error) else worst


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

        def note(line):
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

        for _ in self.records(note, "line of a log of requests"):
            pass
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
        for mark in stop or ():  # an endpoint may not know it
            if mark in reply.text:
                reply = reply._replace(text=reply.text[: reply.text.index(mark)].rstrip(), finish="stop")
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
                sender.refused += bool(told(error)[0]) and not passes(error) and not kind_of(error)
                if sender.refused >= FIRST_REFUSED and not sender.reached:
                    raise CourseError(
                        f"{sender.teacher.base_url} refused the first {sender.refused} requests: {describe(error)}. "
                        "The others were not sent."
                    ) from None
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
