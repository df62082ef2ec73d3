"""One request to an endpoint (retried, within the rate limits and the budget, logged), and many of them at a time.

The `openai` client could retry by itself, but each attempt may be billed, so each has to fit the budget first.
"""

import asyncio
import contextlib
import hashlib
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
from .common import CourseError, Journal, read_jsonl
from .faults import Faulty, asked_pause, explained, kind_of, never_sent, passes, told
from .text import remove_thoughts

WINDOW = 60 * 1.02  # seconds; the endpoint's clock starts when a request arrives, ours when it leaves
LONGEST_WAIT = 30  # seconds between two attempts, where the endpoint names no time
LONGEST_PAUSE = 600  # seconds; who asks for more is told to a person, not slept through
FIRST_REFUSED = 5  # items refused in a row, before any answer: then something is wrong that no item can help


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
            while True:
                now = time.monotonic()
                while self._sent and self._sent[0][0] + WINDOW <= now:
                    self._sum -= self._sent.popleft()[1]
                wait = max(self._until - now, self._last + self.gap - now)
                full = self.requests is not None and len(self._sent) >= self.requests
                # One request larger than the whole limit goes alone: waiting longer would not make it smaller.
                heavy = self.tokens is not None and self._sent and self._sum + tokens > self.tokens
                if full or heavy:
                    wait = max(wait, self._sent[0][0] + WINDOW - now)
                if wait <= 0:
                    break
                await asyncio.sleep(min(wait, 0.25))  # not all at once: a smaller bill may make room meanwhile
            self._last = now
            entry = [now, tokens]
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


# ---- what an answer holds ----


class Completion(NamedTuple):
    """What an endpoint answered, its thoughts left out.

    finish : why it stopped: "stop"; "length" (at the token limit), "thoughts" (before the first word of the answer);
             "content_filter"; "refusal: …"; "until". top : {token: log-probability} of the likeliest first tokens.
    """

    text: str
    finish: str
    usage: Tokens
    top: dict | None = None


# What endpoints call the reasons for an end; what is none of these, or missing, is a stop.
_FINISH = {
    "fault": r".*(?:error|abort|cancel|insufficient|malformed|time_?out|failed).*",
    "length": r".*(?:length|max_?(?:output_|completion_|new_)?tokens|token_limit|context_window).*",
    "content_filter": r".*(?:filter|safety|recitation|prohibited|block|spii|sensitive|guardrail|moderat|flagged).*"
    r"|refusal",
}


def read_finish(finish) -> str:
    """Return "stop", "length", "content_filter" or "fault" for what an endpoint gives as the reason of an end."""
    finish = str(finish or "").lower().removeprefix("finish_reason_")
    return next((kind for kind, names in _FINISH.items() if re.fullmatch(names, finish)), "stop")


def read_usage(usage, text: str, worst: Tokens) -> Tokens:
    """Return the Tokens that an answer is billed; the worst case where its usage is missing or can't be true.

    Thoughts count too: some endpoints name them in the total only. A usage that claims more than the worst is believed.
    """
    read, wrote, total = (getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion", "total"))
    if wrote is None and type(read) is type(total) is int:  # thoughts only
        wrote = total - read
    if not all(type(n) is int and n >= 0 for n in (read, wrote)) or not read or (text and not wrote):
        claimed = [int(n) for n in (read, wrote, total) if type(n) in (int, float) and 0 <= n < 1e12]
        return worst.plus(Tokens(0, max(0, max(claimed, default=0) - sum(worst))))
    thoughts = _reasoning(usage)
    wrote += thoughts if thoughts > wrote else 0
    return Tokens(read, max(wrote, total - read) if type(total) is int else wrote)


def _reasoning(usage):
    """Tokens of thoughts that a usage names, 0 for none."""
    found = (getattr(at, "reasoning_tokens", 0) for at in (getattr(usage, "completion_tokens_details", None), usage))
    return max(n if type(n) is int else 0 for n in found)


def read_content(message) -> tuple[str, bool]:
    """Return (text, whether there were thoughts) of a message, of a part of a stream or of a raw completion."""
    content = getattr(message, "content", None) or getattr(message, "text", None) or ""
    thoughts = bool(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))
    if isinstance(content, list | dict):  # parts: those of the answer are text
        parts = [content] if isinstance(content, dict) else content
        parts = [{"text": part} if isinstance(part, str) else part for part in parts]
        parts = [(str(part.get("type") or "text"), part.get("text")) for part in parts if isinstance(part, dict)]
        thoughts = thoughts or any(re.search("think|reason", kind) for kind, _ in parts)
        content = "".join(
            text for kind, text in parts if re.fullmatch("(output_)?text", kind) and isinstance(text, str)
        )
    return content, thoughts


def read_completion(reply, worst: Tokens) -> Completion:
    """Return the Completion in a reply of either kind. Raises Faulty for anything else, with what it may have cost."""
    if isinstance(reply, str) and "<" in reply[:100]:
        raise Faulty("the endpoint sent a web page where an answer should be", Tokens())
    if isinstance(reply, str) and reply.lstrip().startswith("data:"):  # billed, and the same at every attempt
        raise Faulty("the endpoint streamed its answer, which was not asked for", worst, 200)
    choices, usage = getattr(reply, "choices", None), getattr(reply, "usage", None)
    if error := getattr(reply, "error", None) or (not choices and getattr(reply, "base_resp", None)):
        # Under HTTP 200, as routers do; what a broken answer has cost may stand beside it.
        fault = Faulty("", read_usage(usage, "", Tokens()), body=error)
        fault.args = (f"the endpoint sent an error: {told(fault)[1]}",)
        raise fault
    if not isinstance(choices, list) or not choices or choices[0] is None:
        # Without choices and usage it is no answer of a model, and nobody bills it.
        made = usage is not None or isinstance(choices, list)
        raise Faulty("the endpoint sent a reply without choices", read_usage(usage, "", worst) if made else Tokens())
    choice = choices[0]
    message = getattr(choice, "message", None) or choice
    raw, thoughts = read_content(message)
    bill, finish = read_usage(usage, raw, worst), read_finish(getattr(choice, "finish_reason", None))
    fault = ""
    if not isinstance(raw, str):
        fault = f"the endpoint sent a {type(raw).__name__} where the text should be"
    elif message is choice and not hasattr(choice, "text"):
        fault = "the endpoint sent a choice without a message"
    elif len(raw) > 1000 + 20 * worst.completion:
        fault = f"the endpoint sent {len(raw):,} characters where {worst.completion} tokens were asked for"
    elif finish == "fault":
        fault = f"the endpoint broke off its answer ({choice.finish_reason})"
    if fault:
        raise Faulty(fault, bill)
    thoughts = thoughts or _reasoning(usage) > 0 or (finish == "length" and raw == "" and message is not choice)
    text, refusal = remove_thoughts(raw).strip(), getattr(message, "refusal", None)
    if refusal and not text:
        finish = f"refusal: {' '.join(str(refusal).split())[:500]}"
    elif finish in ("length", "stop") and not text and (thoughts or raw.strip()):
        finish = "thoughts"
    logprobs = getattr(getattr(choice, "logprobs", None), "content", None)
    top = getattr(logprobs[0], "top_logprobs", None) if isinstance(logprobs, list) and logprobs else None
    return Completion(text, finish, bill, {t.token: t.logprob for t in top or () if hasattr(t, "logprob")} or None)


def random_seed(id: str, number: int, attempt: int = 0) -> int:
    """Return the random seed of the `number`-th request for an item: the same in every run, others when asked anew."""
    return ((zlib.crc32(id.encode()) + 1000 * attempt) & 0x7FFFFFFF) + number


def describe(error: Exception) -> str:
    """Return a fault in one line for failed.jsonl, without addresses or keys."""
    status, words, _ = told(error)
    name = "" if type(error) in (Faulty, ValueError) else f"{type(error).__name__}: "
    return " ".join((f"HTTP {status}: {words}" if status else f"{name}{words}").split())[:500]


# ---- one request ----


class Sender:
    """Sends the requests of one run. limits : Limits. budget : BudgetTracker. log : Journal of requests."""

    def __init__(self, client, teacher, limits, budget, log, longest=0):
        self.client, self.teacher, self.limits, self.budget, self.log = client, teacher, limits, budget, log
        self.rate = RateLimiter(limits.requests_per_minute, limits.tokens_per_minute)
        self.number = 0  # of requests so far
        self.reached, self.refused = False, 0  # whether this run has had any answer yet; items refused before that
        self.longest = longest  # tokens that an answer may be billed: some endpoints think beyond the limit
        self._alone = asyncio.Lock()

    async def send(self, id, kind, body, until=None):
        """Return the Completion of one request, tried again where that can help.

        kind : "chat" or "text", the endpoint's two ways to complete. until : see `Asker.complete`.
        Raises BudgetSpent; CourseError where no retry helps (key, quota, model, address); openai.APIError or Faulty
        when the attempts are used up or the endpoint refuses this very request.
        """
        attempt = 1
        body = body if until is None else body | {"stream_options": {"include_usage": True}}
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
            self.number += 1
            number, bill = self.number, worst
            self.log.write({"sent": number, "id": id, "worst": worst})
            try:
                reply = await self.call(kind, body, worst, until)
                if reply.finish == "thoughts" and not self.teacher.thinks:
                    self.teacher.thinks = True  # the next attempt asks for room
                    raise Faulty("the model thinks before it answers, and got no further", reply.usage)
            except (openai.APIError, Faulty) as error:
                # An error status costs nothing; an answer that never came may have been made.
                unpaid = isinstance(error, openai.APIStatusError) or never_sent(error)
                bill, error.entry = getattr(error, "bill", Tokens() if unpaid else worst), entry
                fault = describe(error).replace(self.teacher.api_key or "no key", "…")
                self.log.write({"got": number, "id": id, "fault": fault, "bill": bill})
                raise
            self.reached, bill = True, reply.usage
            self.log.write({"got": number, "id": id, **_answer_line(reply)})
            self.rate.correct(entry, sum(bill))
            return reply
        finally:
            # Where one answer went over what was set aside, the next may go further.
            self.longest = max(self.longest, bill.completion * (2 if bill.completion > worst.completion else 1))
            self.budget.pay(worst, bill)

    async def call(self, kind, body, worst, until=None):
        """Return the Completion of one request, sent once."""
        create = (self.client.chat.completions if kind == "chat" else self.client.completions).create
        try:
            if until is None:
                return read_completion(await create(model=self.teacher.model, **body), worst)
            text, finish, pieces, usage = "", None, 0, None
            async with await create(model=self.teacher.model, stream=True, **body) as stream:
                async for chunk in stream:
                    usage = getattr(chunk, "usage", None) or usage
                    for choice in chunk.choices or ():
                        text, finish = text + (choice.text or ""), choice.finish_reason or finish
                        pieces += bool(choice.text)
                    if until(text):
                        finish = "until"
                        break
            # Broken off: the embedded engine sends a token at a time, others may have written and billed more.
            seen = Tokens(worst.prompt, pieces) if self.teacher.engine else worst
            return Completion(text, finish if finish == "until" else read_finish(finish), read_usage(usage, text, seen))
        except Exception as error:
            # A body that is no JSON, or a stream that broke off: that comes as an error of the HTTP library.
            if not isinstance(error, ValueError) and not type(error).__module__.startswith("httpx"):
                raise
            page = str(getattr(error, "doc", "")).lstrip().startswith("<")
            raise Faulty(f"the endpoint's answer is unreadable ({error})", Tokens() if page else worst) from error

    async def _wait(self, error, attempt):
        """Until the next attempt. "Too many requests" makes everybody wait, any other fault only this item."""
        headers = dict(error.response.headers if isinstance(error, openai.APIStatusError) else {})
        with contextlib.suppress(AttributeError, KeyError, TypeError):  # those that a router quotes in the body
            headers |= {name.lower(): str(value) for name, value in error.body["metadata"]["headers"].items()}
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


# ---- what was asked and answered, on disk, so that nothing is paid for twice ----
#
#    {"sent": 7, "id": …, "worst": [prompt, completion]}         before the request leaves
#    {"got": 7, "id": …, "text": …, "finish": …, "bill": […]}    its answer
#    {"got": 7, "id": …, "fault": …, "bill": […]}                or what went wrong
#    {"forget": id}                                              these answers were of no use; ask afresh
#    {"spent": [prompt, completion], "longest": …}               sum of what an earlier run paid; see Sender


def log_path(path: str | Path) -> Path:
    """Return where the log of requests for a file lies: `<stem>.requests.jsonl` beside it."""
    return Path(path).with_name(f"{Path(path).stem}.requests.jsonl")


def _answer_line(answer):
    line = {"text": answer.text, "finish": answer.finish, "bill": answer.usage}
    return line | ({"top": answer.top} if answer.top else {})


def shorten_log(log, finished) -> tuple[Tokens, dict, int]:
    """Cut a log of requests, an open Journal, down to what is still of use.

    Returns (Tokens spent, {id: [Completion]}, tokens of the longest answer).
    finished : ids that need no answers any more. A request that was sent and never answered, because the process was
    killed, counts with its worst case.
    """
    spent, answers, under_way, longest = [Tokens()], defaultdict(list), {}, [0]

    def note(line):
        if "sent" in line:
            under_way[line["sent"]] = Tokens(*line["worst"])
        elif "got" in line:
            under_way.pop(line["got"], None)
            spent.append(Tokens(*line["bill"]))
            longest.append(spent[-1].completion)
            if "text" in line and line["id"] not in finished:
                answers[line["id"]].append(Completion(line["text"], line["finish"], spent[-1], line.get("top")))
        elif "forget" in line:
            answers.pop(line["forget"], None)
        else:
            spent.append(Tokens(*line["spent"]))
            longest.append(line.get("longest", 0))

    for _ in log.records(note, "line of a log of requests"):
        pass
    spent = Tokens(*map(sum, zip(*spent, *under_way.values(), strict=True)))
    known = [(id, answer) for id, found in answers.items() for answer in found]
    rest = spent.minus(Tokens(*map(sum, zip(Tokens(), *(answer.usage for _, answer in known), strict=True))))
    lines = [{"spent": rest, "longest": max(longest)}]  # no request of this run has the number 0
    lines += [{"got": 0, "id": id, **_answer_line(answer)} for id, answer in known]
    log.rewrite(lines)
    return spent, answers, max(longest)


# ---- many items ----


class Asker:
    """Asks for one item; or repeats, in the same order, what was answered before the last interruption.

    usage   : what this item has cost, `{"prompt_tokens", "completion_tokens", "requests"}`.
    attempt : how often the item was tried in earlier runs; another number draws other random seeds.
    """

    def __init__(self, sender, id, answers=()):
        self.teacher, self.id, self.attempt = sender.teacher, id, 0
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}
        self._sender, self._answers = sender, list(answers)

    async def chat(
        self, messages: list[dict], max_tokens: int, stop: list | None = None, sampling: dict | None = None
    ) -> Completion:
        """Ask for a chat completion. No message can pass for a mark of the chat format.

        sampling : sent instead of the teacher's own sampling and a random seed, {"temperature": 0} say; other
                   parameters of the openai client too, {"extra_body": {…}}.
        Role markers are left: a prompt of ours has them, and a seed lost its own when it was put in there.
        """
        messages = [{"role": m["role"], "content": transcript.escape(m["content"], markers=False)} for m in messages]
        return await self._ask("chat", {"messages": messages, "max_tokens": max_tokens}, stop, sampling)

    async def complete(
        self, prompt, max_tokens: int, stop: list | None = None, sampling: dict | None = None, until=None
    ) -> Completion:
        """Ask for the continuation of a raw prompt, text or a list of token ids.

        until : given, the answer is streamed, and broken off with finish "until" once until(text so far) is true.
        """
        return await self._ask("text", {"prompt": prompt, "max_tokens": max_tokens}, stop, sampling, until)

    def forget(self):
        """Let no later run use the answers so far again: they led to nothing, and would once more."""
        self._sender.log.write({"forget": self.id})

    async def _ask(self, kind, body, stop, sampling, until=None):
        self.usage["requests"] += 1
        if self._answers:
            reply = self._answers.pop(0)
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
) -> Asked:
    """Let `concurrency` workers do `await work(item, asker)` for each item.

    items     : objects with an `id` of their own.
    work      : asks by `asker.chat` and `asker.complete`, and writes what came of it. Should depend on nothing but the
                item and the answers: after a kill it is called again, and what was answered is not asked again.
    path      : the file that is being made; beside it grows the log of requests. finished : ids that are done in it.
    budget    : a Budget for the whole file, never exceeded. limits : a Limits.
    on_failed : `await on_failed(item, asker, error)` where one item failed: openai.APIError, Faulty or ValueError.
    progress  : what a bar on stdout counts, "dialogues" say; "": no bar.
    Any other error stops all workers and is raised; so CourseError: wrong key, endpoint down, disk full.
    """
    from tqdm import tqdm

    items, limits, budget = list(items), limits or Limits(), budget or Budget()
    queue, begin = iter(items), time.monotonic()

    async def worker():
        for item in queue:
            asker = Asker(sender, item.id, answers.pop(item.id, ()))
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
                        f"{teacher.base_url} refused the first {sender.refused} requests: {describe(error)}. "
                        "The others were not sent."
                    ) from None
            so_far = f"{sum(tracker.spent):,} tokens"
            if tracker.usd:  # and what the whole will cost if it goes on like this
                fresh = dollars(tracker.spent.minus(before), tracker.price)
                whole = tracker.usd + fresh * (len(items) / (bar.n + 1) - 1)
                so_far += f", ${tracker.usd:.3f}, about ${whole:.2f} in all"
            bar.set_postfix_str(so_far, refresh=False)
            bar.update()

    # Progress as plain text on stdout: a bar made of widgets would leave its state in the notebook.
    line = f"{{percentage:3.0f}}%|{{bar}}| {{n_fmt}}/{{total_fmt}} {progress} [{{elapsed}}<{{remaining}}{{postfix}}]"
    options = {"file": sys.stdout, "ncols": 110, "disable": not (progress and items), "mininterval": 1}
    with Journal(log_path(path)) as log, tqdm(total=len(items), bar_format=line, **options) as bar:
        before, answers, longest = shorten_log(log, finished)
        tracker = BudgetTracker(budget, price_of(teacher, budget.price), before)
        asked = Asked(before, tracker.usd)
        # No retries by the client: each attempt has to fit the budget.
        async with teacher.client(max_retries=0, timeout=limits.timeout) as client:
            sender = Sender(client, teacher, limits, tracker, log, longest)
            workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(items)))]
            try:
                await asyncio.gather(*workers)
            except BudgetSpent as spent:
                asked.stopped = str(spent)
            finally:
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
    asked.spent, asked.usd, asked.seconds = tracker.spent, tracker.usd, time.monotonic() - begin
    return asked


# ---- each question once, whatever happens in between ----


def digest(value, **options) -> str:
    """Return sixteen hex digits that stand for a value json can write."""
    text = json.dumps(value, ensure_ascii=False, **options)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def missing(items, path, key: str) -> list:
    """Return the items, each once, whose `id` no line of the file at `path` has under `key`."""
    known = {line[key] for line in read_jsonl(path)} if Path(path).is_file() else set()
    return list({item.id: item for item in items if item.id not in known}.values())


async def ask_once(items, ask, teacher, path, key: str, what: str, **options) -> dict[str, dict]:
    """Ask what is not known yet: `await ask(item, asker)` gives the line to keep. Return {id: line} of the whole file.

    path    : JSONL, a durable line each; what stands there under an item's id in `key` is not paid again.
    options : budget (a Budget for the whole file), limits, concurrency, as of `ask_all`.
    Raises CourseError: wrong key, endpoint down, budget spent, items (`what` they are) without an answer. What was
    answered is kept, and the next call goes on from there.
    """
    with Journal(path) as journal:
        lines = {line[key]: line for line in journal.records()}

        async def work(item, asker):
            line = await ask(item, asker)
            lines[item.id] = line
            journal.write(line)
            await journal.durable()

        todo = list({item.id: item for item in items if item.id not in lines}.values())
        asked = await ask_all(todo, work, teacher, path, finished=set(lines), **options)
    if asked.stopped:
        raise CourseError(asked.stopped)
    if asked.failed:
        raise CourseError(
            f"{len(asked.failed)} of {len(todo)} {what} got no answer ({asked.failed[0][1]}). "
            "All others are kept: run this again to ask only those."
        )
    return lines
