"""Where a request is sent and paid: rate limits, the budget, retries, the log of requests, and many at a time.

The `openai` client could retry by itself, but each attempt may be billed, so each has to fit the budget first.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import math
import random
import sys
import time
import zlib
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import openai

from . import transcript
from .answers import Completion, Tokens, read_completion
from .common import CourseError, Journal, duration, read_jsonl
from .faults import Faulty, asked_pause, describe, explained, kind_of, never_sent, passes, told

WINDOW = 60 * 1.02  # seconds; the endpoint's clock starts when a request arrives, ours when it leaves
LONGEST_WAIT = 30  # seconds between two attempts, where the endpoint names no time
LONGEST_PAUSE = 600  # seconds; who asks for more is told to a person, not slept through
FIRST_REFUSED = 5  # items refused in a row, before any answer: then something is wrong that no item can help


@dataclass(frozen=True)
class Limits:
    """How patient a run is with its endpoint. None: the provider names no such limit; tokens count in and out."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    attempts: int = 8  # of one request
    first_wait: float = 0.5  # seconds before the second attempt, doubled for each one after
    timeout: float = 600  # seconds


@dataclass(frozen=True)
class Budget:
    """What one file may cost in all, earlier runs on it included. None stands for no cap."""

    usd: float | None = None
    tokens: int | None = None  # in and out together
    dialogues: int | None = None  # lines in a corpus file
    price: tuple | None = None  # (dollars per million tokens in, per million out), for models without a known one


class RateLimiter:
    """Lets requests go at most so many, and so many tokens, in any `WINDOW`; after a "too many" (429) further apart."""

    def __init__(self, requests=None, tokens=None):
        self.requests, self.tokens = requests or math.inf, tokens or math.inf
        self.gap = 0.0  # seconds between two requests, learned
        self._sent = deque()  # [time, tokens] of the requests in the window, oldest first
        self._last = self._until = self._slowed = 0.0
        self._queue = asyncio.Lock()  # first come, first served

    async def turn(self, tokens):
        """Wait until a request of at most `tokens` may leave; return its entry for `correct`."""
        async with self._queue:
            while True:
                now = time.monotonic()
                while self._sent and self._sent[0][0] + WINDOW <= now:
                    self._sent.popleft()
                wait = max(self._until, self._last + self.gap) - now
                # One request larger than the whole limit goes alone: waiting longer would not make it smaller.
                full = len(self._sent) >= self.requests
                if self.tokens < math.inf:
                    full = full or sum(entry[1] for entry in self._sent) + tokens > self.tokens
                if self._sent and full:
                    wait = max(wait, self._sent[0][0] + WINDOW - now)
                if wait <= 0:
                    break
                await asyncio.sleep(min(wait, 0.25))  # not all at once: a smaller bill may make room meanwhile
            self._last = now
            self._sent.append([now, tokens])
            return self._sent[-1]

    def correct(self, entry, tokens):
        """A request took `tokens`, not the worst case: others may leave a little closer together."""
        entry[1] = tokens
        self.gap = 0.0 if self.gap < 0.002 else self.gap * 0.9

    def refused(self, entry, seconds):
        """Let nobody send for `seconds`. Of requests that left together, only the first refusal doubles the gap."""
        now = time.monotonic()
        self._until = max(self._until, now + seconds)
        if entry[0] > self._slowed:
            self._slowed, self.gap = now, min(2.0, max(2 * self.gap, 0.02))


def price_of(teacher, price: tuple | None = None) -> tuple | None:
    """Return (dollars per million prompt tokens, per million completion tokens), or None where nobody knows.

    An address of one's own (a local server, a proxy) has no price, whatever the model there is called.
    """
    if price is not None or teacher.engine is not None:
        return price or (0.0, 0.0)
    host = urlsplit(teacher.base_url).hostname or ""
    try:
        local = not ipaddress.ip_address(host).is_global
    except ValueError:
        local = "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost", ".home.arpa"))
    if local:
        return None
    from genai_prices import Usage, calc_price

    usages = (Usage(input_tokens=1000), Usage(output_tokens=1000))
    for where in ({"provider_api_url": teacher.base_url}, {}):  # by provider and model, else by model
        with contextlib.suppress(LookupError):
            return tuple(float(calc_price(u, model_ref=teacher.model, **where).total_price) * 1000 for u in usages)
    return None


def dollars(tokens: Tokens, price: tuple | None) -> float | None:
    """Return what `tokens` cost at `price`; None where the price is unknown."""
    return None if price is None else (tokens.prompt * price[0] + tokens.completion * price[1]) / 1e6


# A token is at least one byte. Roles, marks and a template's own system prompt come on top.
PER_MESSAGE, PER_REQUEST = 16, 64
NO_LIMIT = 8192  # tokens of an answer to a request that names no limit


def worst_case(body: dict) -> Tokens:
    """Return the most Tokens a request can take: every byte of it a token of its own, and an answer of full length."""
    texts = [m["content"] for m in body["messages"]] if "messages" in body else [body["prompt"]]
    read = sum(len(t.encode() if isinstance(t, str) else t) + PER_MESSAGE for t in texts) + PER_REQUEST
    wrote = body.get("max_completion_tokens") or body.get("max_tokens") or NO_LIMIT
    return Tokens(read, wrote * (body.get("n") or 1))


class BudgetSpent(Exception):
    """The next request might go over the budget, so it was not sent."""


class BudgetTracker:
    """What a run has spent, and what requests under way might still cost.

    The rule: before a request is sent, its worst case is set aside. If that does not fit any more, it is not sent.
    price : see `price_of`. spent, longest : of earlier runs on the same file, see `shorten_log`.
    """

    def __init__(self, budget, price, spent, longest):
        if budget.usd is not None and price is None:
            fault = "This model's price is unknown, so a budget in dollars can't be kept."
            known = "Budget(usd=…, price=(per million tokens in, per million out))"
            remedy = f"Give the price from your provider's page, {known}, or cap the tokens: Budget(tokens=…)."
            raise CourseError(f"{fault} {remedy}")
        self.budget, self.price, self.spent = budget, price, spent
        self.longest = longest  # tokens that an answer was billed: some endpoints think beyond the limit
        self.answered = False  # before the first bill, which may be far above what was asked for, one at a time
        self.reserved = Tokens()
        self._changed = asyncio.Event()
        self._over = ""

    async def reserve(self, worst):
        """Set the worst case of a request aside and return it; wait if it may fit later, else raise BudgetSpent."""
        caps = self.budget
        capped = caps.tokens is not None or caps.usd is not None
        while True:
            worst = worst._replace(completion=max(worst.completion, self.longest))
            after = self.spent.plus(self.reserved).plus(worst)
            fits = caps.tokens is None or sum(after) <= caps.tokens
            fits = fits and (caps.usd is None or dollars(after, self.price) <= caps.usd)
            idle = self.reserved == Tokens()
            if fits and not self._over and (idle or self.answered or not capped):
                break
            if idle or self._over:
                # From here on not even a small request leaves: the run is about to stop, and would cut it off.
                parts = [f"{sum(self.spent):,} of {caps.tokens:,} tokens"] if caps.tokens is not None else []
                parts += [f"${dollars(self.spent, self.price):.4f} of ${caps.usd:.4f}"] if caps.usd is not None else []
                self._over = self._over or (
                    f"Budget: {' and '.join(parts)} spent, and the next request might take {sum(worst):,} tokens. "
                    "Everything so far is kept; run again with a larger budget to go on."
                )
                raise BudgetSpent(self._over)
            self._changed.clear()
            await self._changed.wait()
        self.reserved = self.reserved.plus(worst)
        return worst

    def pay(self, worst, bill):
        """Set the worst case of a request free, and spend its bill."""
        self.reserved = self.reserved.minus(worst)
        self.spent = self.spent.plus(bill)
        # Where one answer went over what was set aside, the next may go further.
        self.longest = max(self.longest, bill.completion * (2 if bill.completion > worst.completion else 1))
        self._changed.set()


class Sender:
    """Sends the requests of one run. limits : Limits. budget : BudgetTracker. log : Journal of requests."""

    def __init__(self, client, teacher, limits, budget, log):
        self.client, self.teacher, self.limits, self.budget, self.log = client, teacher, limits, budget, log
        self.rate = RateLimiter(limits.requests_per_minute, limits.tokens_per_minute)
        self.number = 0  # of requests so far

    async def send(self, id, kind, body):
        """Return the Completion of one request, "chat" or "text", tried again where that can help.

        Raises BudgetSpent; CourseError where no retry helps (key, quota, model …); else openai.APIError or Faulty.
        """
        attempt = 1
        while True:
            adapted = self.teacher.adapted(kind, body)
            try:
                return await self._attempt(id, kind, adapted)
            except (openai.APIError, Faulty) as error:
                if self.teacher.learn(error, adapted):
                    continue
                dead = not self.budget.answered and attempt > 1 and never_sent(error)
                if not dead and attempt < self.limits.attempts and passes(error):
                    await self._wait(error, attempt)
                    attempt += 1
                    continue
                if isinstance(error, openai.APIConnectionError) and not never_sent(error):
                    raise  # a connection that was lost concerns one item only
                raise explained(error, self.teacher) from None

    async def _attempt(self, id, kind, body):
        """One request, paid for on every way out; one that is cancelled is charged as if it had been answered."""
        worst = await self.budget.reserve(worst_case(body))
        bill = Tokens()
        try:
            entry = await self.rate.turn(sum(worst))
            self.number += 1
            number, bill = self.number, worst
            self.log.write({"sent": number, "id": id, "worst": worst})
            try:
                reply = await self.call(kind, body, worst)
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
            self.budget.answered, bill = True, reply.usage
            self.log.write({"got": number, "id": id, **dict(zip(_FIELDS, reply, strict=True))})
            self.rate.correct(entry, sum(bill))
            return reply
        finally:
            self.budget.pay(worst, bill)

    async def call(self, kind, body, worst):
        """Return the Completion of one request, sent once."""
        create = (self.client.chat.completions if kind == "chat" else self.client.completions).create
        try:
            return read_completion(await create(model=self.teacher.model, **body), worst)
        except ValueError as error:  # a body that is no JSON
            page = str(getattr(error, "doc", "")).lstrip().startswith("<")
            raise Faulty(f"the endpoint's answer is unreadable ({error})", Tokens() if page else worst) from error

    async def _wait(self, error, attempt):
        """Until the next attempt. "Too many requests" makes everybody wait, any other fault only this item."""
        headers = dict(error.response.headers) if isinstance(error, openai.APIStatusError) else {}
        with contextlib.suppress(AttributeError, KeyError, TypeError):  # those that a router quotes in the body
            headers |= {name.lower(): str(value) for name, value in error.body["metadata"]["headers"].items()}
        status, _, text = told(error)
        asked = asked_pause(headers, text)
        if asked is not None and asked > LONGEST_PAUSE:
            kept = "Everything so far is kept: run this again after that time and it goes on from here."
            raise CourseError(f"{self.teacher.base_url} asks for a pause of {duration(asked)}. {kept}")
        seconds = min(LONGEST_WAIT, self.limits.first_wait * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
        if asked is not None:
            # Who asks for no time, or for a moment, may ask so again and again: then ours grows all the same.
            seconds = asked if asked >= 1 else max(asked, seconds)
        if status == 429:
            self.rate.refused(error.entry, seconds)
        await asyncio.sleep(seconds)


# What was asked and answered, on disk, so that nothing is paid for twice:
#    {"sent": 7, "id": …, "worst": [prompt, completion]}         before the request leaves
#    {"got": 7, "id": …, "text": …, "finish": …, "bill": […]}    its answer
#    {"got": 7, "id": …, "fault": …, "bill": […]}                or what went wrong
#    {"forget": id}                                              these answers were of no use; ask afresh
#    {"spent": [prompt, completion], "longest": …}               sum of what an earlier run paid; see Sender


def log_path(path: str | Path) -> Path:
    """Return where the log of requests for a file lies: `<stem>.requests.jsonl` beside it."""
    return Path(path).with_name(f"{Path(path).stem}.requests.jsonl")


_FIELDS = ("text", "finish", "bill", "top")  # how those of a Completion are called in the log


def shorten_log(log, finished) -> tuple[Tokens, dict, int]:
    """Cut a log down to what is of use: (Tokens spent, {id: [Completion]}, tokens of the longest answer).

    A request that was sent and never answered, because the process was killed, counts with its worst case.
    """
    spent, longest, answers, under_way = Tokens(), 0, defaultdict(list), {}

    def note(line):
        nonlocal spent, longest
        if "sent" in line:
            under_way[line["sent"]] = Tokens(*line["worst"])
        elif "forget" in line:
            answers.pop(line["forget"], None)
        elif "spent" in line:
            spent, longest = spent.plus(Tokens(*line["spent"])), max(longest, line.get("longest", 0))
        else:
            under_way.pop(line["got"], None)
            bill = Tokens(*line["bill"])
            spent, longest = spent.plus(bill), max(longest, bill.completion)
            if "text" in line and line["id"] not in finished:
                answers[line["id"]].append(Completion(line["text"], line["finish"], bill, line.get("top")))

    for _ in log.records(note, "line of a log of requests"):
        pass
    for worst in under_way.values():
        spent = spent.plus(worst)
    rest, lines = spent, []
    for id, found in answers.items():
        for answer in found:
            rest = rest.minus(answer.usage)
            # No request of this run has the number 0.
            lines.append({"got": 0, "id": id, **dict(zip(_FIELDS, answer, strict=True))})
    log.rewrite([{"spent": rest, "longest": longest}, *lines])
    return spent, answers, longest


def random_seed(id: str, number: int, attempt: int = 0) -> int:
    """Return the random seed of the `number`-th request for an item: the same in every run, others when asked anew."""
    return ((zlib.crc32(id.encode()) + 1000 * attempt) & 0x7FFFFFFF) + number


class Asker:
    """Asks for one item; or repeats, in the same order, what was answered before the last interruption."""

    def __init__(self, sender, id, answers=()):
        self.teacher, self.id = sender.teacher, id
        self.attempt = 0  # how often the item was tried in earlier runs; another number draws other random seeds
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}
        self._sender, self._answers = sender, list(answers)

    async def chat(self, messages: list[dict], max_tokens: int, stop=None, sampling=None) -> Completion:
        """Ask for a chat completion. sampling : sent instead of the teacher's own and a random seed.

        No message can pass for a mark of the chat format. Role markers are left: a prompt of ours has them.
        """
        messages = [{"role": m["role"], "content": transcript.escape(m["content"], markers=False)} for m in messages]
        return await self._ask("chat", {"messages": messages, "max_tokens": max_tokens}, stop, sampling)

    async def complete(self, prompt, max_tokens: int, stop=None, sampling=None) -> Completion:
        """Ask for the continuation of a raw prompt, text or a list of token ids."""
        return await self._ask("text", {"prompt": prompt, "max_tokens": max_tokens}, stop, sampling)

    def forget(self):
        """Let no later run use the answers so far again: they led to nothing, and would once more."""
        self._sender.log.write({"forget": self.id})

    async def _ask(self, kind, body, stop, sampling):
        self.usage["requests"] += 1
        if self._answers:
            reply = self._answers.pop(0)
        else:
            if sampling is None:  # another seed per request, or every answer would draw the same numbers
                seed = random_seed(self.id, self.usage["requests"], self.attempt)
                sampling = {**self.teacher.sampling, "seed": seed}
            reply = await self._sender.send(self.id, kind, body | sampling | ({"stop": stop} if stop else {}))
        for mark in stop or ():  # an endpoint may not know it
            if mark in reply.text:
                reply = reply._replace(text=reply.text[: reply.text.index(mark)].rstrip(), finish="stop")
        self.usage["prompt_tokens"] += reply.usage.prompt
        self.usage["completion_tokens"] += reply.usage.completion
        return reply


@dataclass
class Asked:
    usd: float | None = None  # that the file has cost so far; None: price unknown
    stopped: str = ""  # or why it ended before the last item: a spent budget
    seconds: float = 0.0
    failed: list = field(default_factory=list)  # (item, reason), unless `on_failed` took them


async def ask_all(
    items, work, teacher, path, *, finished=(), budget=None, limits=None, concurrency=16, on_failed=None, progress=""
) -> Asked:
    """Let `concurrency` workers do `await work(item, asker)` for each item, which has an `id` of its own.

    work      : asks by `asker.chat` and `asker.complete`, and writes what came of it. Should depend on nothing but the
                item and the answers: after a kill it is called again, and what was answered is not asked again.
    path      : the file that is being made; beside it grows the log of requests. finished : ids that are done in it.
    on_failed : `await on_failed(item, asker, error)` where one item failed: openai.APIError, Faulty or ValueError.
    progress  : what a bar on stdout counts, "dialogues" say; "": no bar.
    Any other error stops all workers and is raised; so CourseError: wrong key, endpoint down, disk full.
    """
    from tqdm import tqdm

    items, limits, budget = list(items), limits or Limits(), budget or Budget()
    queue, asked, begin, refused = iter(items), Asked(), time.monotonic(), 0

    async def worker():
        nonlocal refused
        for item in queue:
            asker = Asker(sender, item.id, answers.pop(item.id, ()))
            try:
                await work(item, asker)
            except (openai.APIError, Faulty, ValueError) as error:
                if on_failed:
                    await on_failed(item, asker, error)
                else:
                    asked.failed.append((item, describe(error)))
                refused += bool(told(error)[0]) and not passes(error) and not kind_of(error)
                if refused >= FIRST_REFUSED and not tracker.answered:
                    fault = f"{teacher.base_url} refused the first {refused} requests: {describe(error)}."
                    raise CourseError(f"{fault} The others were not sent.") from None
            cost = dollars(tracker.spent, tracker.price)
            bar.set_postfix_str(f"{sum(tracker.spent):,} tokens" + (f", ${cost:.3f}" if cost else ""), refresh=False)
            bar.update()

    # Progress as plain text on stdout: a bar made of widgets would leave its state in the notebook.
    options = {"unit": f" {progress}", "file": sys.stdout, "ncols": 110, "mininterval": 1}
    with Journal(log_path(path)) as log, tqdm(total=len(items), disable=not (progress and items), **options) as bar:
        spent, answers, longest = shorten_log(log, finished)
        tracker = BudgetTracker(budget, price_of(teacher, budget.price), spent, longest)
        # No retries by the client: each attempt has to fit the budget.
        async with teacher.client(max_retries=0, timeout=limits.timeout) as client:
            sender = Sender(client, teacher, limits, tracker, log)
            workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(items)))]
            try:
                await asyncio.gather(*workers)
            except BudgetSpent as over:
                asked.stopped = str(over)
            finally:
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
    asked.usd, asked.seconds = dollars(tracker.spent, tracker.price), time.monotonic() - begin
    return asked


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
        fault = f"{len(asked.failed)} of {len(todo)} {what} got no answer ({asked.failed[0][1]})."
        raise CourseError(f"{fault} All others are kept: run this again to ask only those.")
    return lines
