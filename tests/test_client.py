"""Requests to endpoints as they are: faults that pass and faults that stay, what is fatal, what is billed, how long to
wait, what some refuse, and the shapes in which answers come. What self-chat makes of them; judges and replies share it.
"""

import asyncio
import json
import random
from collections import Counter, deque
from datetime import UTC, datetime, timedelta

import pytest
from endpoints import Answer, completion, serving

from baize_nb import client, corpus, selfchat, teacher
from baize_nb.client import RateLimiter
from baize_nb.common import CourseError
from baize_nb.faults import asked_pause
from baize_nb.seeds import Seed

SETTINGS = selfchat.Settings(max_turns=2, answer_tokens=40, question_tokens=24)
KEY = "sk-secret-123"
QUICK = selfchat.Limits(attempts=3, first_wait=0.01, timeout=1.0)


def make_seeds(n):
    return [Seed(f"s-{i}", f"What is number {i} good for?", "numbers", "Apache-2.0") for i in range(n)]


def collect(url, path, seeds=1, model=None, **options):
    options = {"settings": SETTINGS, "limits": QUICK, "strategy": "two-role", "progress": False} | options
    return asyncio.run(selfchat.collect(make_seeds(seeds), model or teacher.Teacher(url, "m", KEY), path, **options))


def reasons(path):
    return {r["id"]: r["reason"] for r in map(json.loads, path.with_name("failed.jsonl").read_text().splitlines())}


def is_human(body):
    return "Write what the" in str(body)


def good(path, body):
    """A sensible reply to either side of a two-role dialogue, different each time."""
    good.count = getattr(good, "count", 0) + 1
    return Answer(completion(f"And case {good.count}?" if is_human(body) else f"It has use number {good.count}."))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "corpus.jsonl"


# ---- faults that pass ----

FAULTS = {
    "429 with Retry-After": Answer({"error": {"message": "slow"}}, 429, {"Retry-After": "0.05"}),
    "429 with a date": Answer({"error": {}}, 429, {"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"}),
    "429 of a minute's quota": Answer(
        {"error": {"message": "You exceeded your current quota. Please retry in 0.02s"}}, 429
    ),
    "error under 200": Answer({"error": {"message": "Provider returned error", "code": 502}}),
    "error under 200, no number": Answer({"error": {"message": "Rate limit exceeded"}}),
    "500 of a slow model": Answer({"error": "context deadline exceeded"}, 500),
    "500": Answer(b"Internal error", 500, {"Content-Type": "text/plain"}),
    "503 with HTML": Answer(b"<html>busy</html>", 503, {"Content-Type": "text/html"}),
    "529 with Retry-After 0": Answer({"error": {"message": "Overloaded"}}, 529, {"Retry-After": "0"}),
    "429 of a minute's quota, the time apart": Answer(
        [{"error": {"message": "You exceeded your current quota", "details": [{"retryDelay": "0.02s"}]}}], 429
    ),
    "reset": Answer(fault="reset"),
    "time-out": Answer(fault="hang"),
    "half a body": Answer(completion("Half."), fault="cut"),
    "no JSON": Answer(b'{"choices": [{"mess'),
    "HTML with 200": Answer(b"<html>welcome</html>", 200, {"Content-Type": "text/html"}),
    "null": Answer(b"null"),
    "a list": Answer(b"[1, 2]"),
    "nothing": Answer(b""),
    "empty choices": Answer(completion("x") | {"choices": []}),
    "null for a choice": Answer(completion("x") | {"choices": [None]}),
    "no message": Answer(completion("x") | {"choices": [{"index": 0, "message": None}]}),
    "no choices": Answer({"id": "x"}),
    "text is a number": Answer(completion(17)),
    "broken off": Answer(completion("Half an ans", "error")),
    "a megabyte": Answer(completion("word " * 200_000)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_that_passes_costs_no_dialogue_and_one_that_stays_is_taken_up_later(fault, path):
    seen, stays = set(), [True]

    async def answer(_, body):
        first = "number 2 " in str(body) and str(body) not in seen
        seen.add(str(body))
        return FAULTS[fault] if first or (stays and "number 1 " in str(body)) else good(_, body)

    quick = selfchat.Limits(attempts=2, first_wait=0.01, timeout=0.4)
    with serving(answer) as url:
        report = collect(url, path, 4, limits=quick)
        assert (report.made, report.failed) == (3, 1) and list(reasons(path)) == ["s-1"] and reasons(path)["s-1"]
        stays.clear()
        options = {"settings": SETTINGS, "limits": quick, "strategy": "two-role", "progress": False}
        again = asyncio.run(selfchat.retry_failed(teacher.Teacher(url, "m"), path, **options))
    assert (again.made, again.failed) == (1, 0)
    dialogues = corpus.read(path)
    assert sorted(d.id for d in dialogues) == [f"s-{i}" for i in range(4)]
    assert {d.license for d in dialogues} == {"Apache-2.0"}


def test_every_seed_ends_as_a_dialogue_or_as_a_failure(path):
    rng = random.Random(7)

    async def answer(_, body):
        return FAULTS[rng.choice(list(FAULTS))] if rng.random() < 0.5 else good(_, body)

    with serving(answer) as url:
        report = collect(url, path, 30, limits=selfchat.Limits(attempts=3, first_wait=0.01, timeout=0.1))
    done, failed = {d.id for d in corpus.read(path)}, set(reasons(path))
    assert done and failed and not done & failed and done | failed == {s.id for s in make_seeds(30)}
    assert (report.made, report.failed) == (len(done), len(failed))


# ---- what a refusal means ----

FATAL = {
    "wrong key": (401, {"message": "Incorrect API key provided: " + KEY}, "refused the key"),
    "wrong key, Gemini": (400, {"message": "API key not valid.", "status": "INVALID_ARGUMENT"}, "refused the key"),
    "a key without rights": (403, {"message": "This key may not call chat completions"}, "refused the key"),
    "empty account": (402, {"message": "Insufficient Balance"}, 'no quota left.*"Insufficient Balance".*Add credit'),
    "empty account, 429": (429, {"message": "x", "code": "insufficient_quota"}, "no quota left"),
    "budget of a proxy": (400, {"message": "Budget has been exceeded! Max: 5"}, "no quota left.*Max: 5"),
    "no credits": (403, {"message": "Your team doesn't have any credits yet"}, "no quota left"),
    "model that can't be loaded": (500, {"message": "could not load model: no such file"}, "has no model"),
    "under 200": (200, {"message": "Insufficient credits", "code": 402}, "no quota left"),
    "unknown model": (404, {"message": "No such model", "code": "model_not_found"}, "has no model 'm'.*: gpt-a, gpt-b"),
    "unknown model, Mistral": (400, {"message": "Invalid model: m", "type": "invalid_model"}, "BAIZE_TEACHER_MODEL"),
    "model that is gone": (400, {"message": "gone", "code": "model_decommissioned"}, "has no model.*: gpt-a, gpt-b"),
    "bad deployment": (404, {"code": "DeploymentNotFound", "message": "x"}, "has no model"),
    "empty account, no number": (200, {"message": "x", "code": "insufficient_quota"}, "no quota left"),
    "a key's limit": (403, {"message": "Key limit exceeded (total limit)."}, "no quota left"),
    "credit limit": (403, {"message": "Credit limit exceeded", "type": "credit_limit"}, "no quota left"),
    "name with a dot": (404, {"message": "models/gem-1.5-pro is not found for API version v1"}, "has no model"),
    "name with a dot, quoted": (404, {"message": 'model "llama3.2" not found, try pulling it'}, "has no model"),
    "unknown model, two words": (404, {"message": "model: m-4", "type": "not_found_error"}, "has no model"),
    "unknown model, access": (404, {"message": "Unable to access m", "code": "model_not_available"}, "has no model"),
    "model of other keys": (401, {"message": "key not allowed to access model."}, "has no model"),
    "none loaded": (404, {"message": "No models loaded. Please load one"}, "has no model"),
    "model that is too large": (500, {"message": "model requires more system memory (8 GiB)"}, "has no model"),
    "model, under 200": (200, {"message": "Model m not found"}, "has no model"),
    "wrong path, under 200": (200, "Unexpected endpoint or method.", "does not know this request"),
    "wrong path": (404, {"message": "Not Found"}, "does not know this request.*BAIZE_TEACHER_URL"),
    "region": (403, {"message": "Country, region, or territory not supported"}, "does not serve the place"),
    "whatever, always": (
        400,
        {"message": "Computer says no"},
        "refused the first 5 requests: HTTP 400: Computer says no",
    ),
    "a firewall": (403, {"message": "no"}, "refused the first 5 requests: HTTP 403: no"),
    "a long pause": (429, {"message": "Try again in 26h0m0s"}, "pause of 1560 minutes"),
    "a long pause, of the provider behind a router": (
        429,
        {"message": "x", "metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999"}}},
        "pause of 1667 minutes",
    ),
}


@pytest.mark.parametrize("name", FATAL)
def test_what_no_retry_mends_stops_the_run_at_once_in_the_provider_s_words(name, path):
    status, error, said = FATAL[name]
    asked = Counter()

    async def answer(where, body):
        if where.endswith("/models"):
            return Answer({"data": [{"id": "gpt-b"}, {"id": "gpt-a"}, {"id": "text-embedding-1"}]})
        asked["all"] += 1
        return Answer({"error": error}, status)

    with serving(answer) as url, pytest.raises(CourseError, match=said) as caught:
        collect(url, path, 50, concurrency=4)
    assert asked["all"] <= 9, "one per worker, and no second attempt"
    assert KEY not in str(caught.value)
    assert not any(KEY.encode() in file.read_bytes() for file in path.parent.iterdir())
    assert (collect("http://127.0.0.1:9/v1", path, 0).usage == {} and "refused the first" in said) or not reasons(path)


FILTERED = {"message": "Your input was flagged by moderation", "metadata": {"reasons": ["violence"]}}
ENDS = {  # the answer from the third request on: (status, error, the dialogue's end or the seed's failure)
    "filter": (400, {"message": "filtered", "code": "content_filter"}, "content_filter"),
    "moderation": (403, FILTERED, "content_filter"),
    "context": (400, {"message": "This model's maximum context length is 4096 tokens"}, "context"),
    "context, TGI": (422, {"message": "`inputs` tokens + `max_new_tokens` must be <= 2048"}, "context"),
    "too large": (413, {"message": "Request too large"}, "context"),
    "too large for a minute": (429, {"message": "Request too large for m: Limit 100, Requested 200"}, "context"),
    "other": (400, {"message": "Computer says no"}, "HTTP 400: Computer says no"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_refusal_in_mid_dialogue_is_called_what_it_is(name, path):
    status, error, end = ENDS[name]
    asked = Counter()

    async def answer(_, body):
        asked["all"] += 1
        return good(_, body) if asked["all"] < 3 else Answer({"error": error}, status)

    with serving(answer) as url:
        collect(url, path)
    if end.startswith("HTTP"):
        assert reasons(path) == {"s-0": end}
    else:
        assert [(d.turns, d.end) for d in corpus.read(path)] == [(1, end)]


def test_a_text_that_is_flagged_fails_alone(path):
    async def answer(_, body):
        return Answer({"error": FILTERED}, 403) if "number 1 " in str(body) else good(_, body)

    with serving(answer) as url:
        report = collect(url, path, 5)
    assert (report.made, reasons(path)) == (4, {"s-1": "HTTP 403: Your input was flagged by moderation"})


# ---- what is billed ----


def usage(**counts):
    return completion("It is.") | {"usage": {f"{name}_tokens": n for name, n in counts.items()}}


BILLS = {  # an answer, and what it costs: (tokens read, written), None: the worst case
    "plain": (usage(prompt=20, completion=5, total=25), (20, 5)),
    "thoughts in the total only": (usage(prompt=20, completion=5, total=925), (20, 905)),
    "thoughts apart": (usage(prompt=20, completion=5, completion_tokens_details=0), (20, 5)),
    "thoughts beside": (usage(prompt=20, completion=5, reasoning=700), (20, 705)),
    "only thoughts": (completion("", "length") | {"usage": {"prompt_tokens": 20, "total_tokens": 112}}, (20, 92)),
    "none": (completion("It is.") | {"usage": None}, None),
    "an answer streamed unasked": (b'data: {"choices": []}', None),
    "zeros": (usage(prompt=0, completion=0, total=0), None),
    "nothing written": (usage(prompt=20, completion=0), None),
    "floats": (usage(prompt=20.0, completion=5.0), None),
    "negative": (usage(prompt=20, completion=-5), None),
    "text": (usage(prompt="20", completion="5"), None),
    "error under 200": ({"error": {"message": "upstream", "code": 502}}, (0, 0)),
    "error under 200 that is billed": (usage(prompt=20, completion=7) | {"error": {"code": 502}}, (20, 7)),
    "a web page": (b"<html>portal</html>", (0, 0)),
    "no answer of a model": (b"7", (0, 0)),
    "an answer torn off": (b'{"choices": [{"mess', None),
}


@pytest.mark.parametrize("name", BILLS)
def test_what_is_billed_is_counted_and_what_cannot_have_been_billed_is_not(name, path):
    body, bill = BILLS[name]

    async def answer(_, asked):
        return Answer(body)

    with serving(answer) as url:
        collect(
            url, path, strategy="transcript", limits=selfchat.Limits(attempts=1), budget=selfchat.Budget(tokens=9999)
        )
    sent, got = (json.loads(line) for line in client.log_path(path).read_text().splitlines()[1:3])
    assert got["bill"] == list(bill if bill else sent["worst"])


def test_a_cap_holds_where_answers_are_far_longer_than_what_was_asked_for(path):
    async def answer(_, body):
        return Answer(usage(prompt=20, completion=5, total=925))

    with serving(answer) as url:
        report = collect(url, path, 30, budget=selfchat.Budget(usd=1.0, price=(1.0, 1000.0)), concurrency=8)
    assert 0.9 < report.usd <= 1.0 and "of $1.0000 spent" in report.stopped


@pytest.mark.parametrize("counts", [{"total": 5000}, {"prompt": 20.0, "completion": 5000.0}])
def test_a_usage_that_cannot_be_read_but_claims_more_than_the_worst_case_is_believed(counts, path):
    async def answer(_, body):
        return Answer(usage(**counts))

    with serving(answer) as url:
        collect(url, path, budget=selfchat.Budget(tokens=9999), strategy="transcript")
    [got] = (json.loads(line) for line in client.log_path(path).read_text().splitlines() if '"got"' in line)
    assert sum(got["bill"]) == 5000


def test_a_cap_holds_over_several_runs_where_answers_are_longer_than_what_was_asked_for(path):
    async def answer(_, body):
        return Answer(usage(prompt=20, completion=5, total=3020))

    with serving(answer) as url:
        for _ in range(4):
            collect(url, path, 30, budget=selfchat.Budget(tokens=10_000), concurrency=8)
    spent, *lines = map(json.loads, client.log_path(path).read_text().splitlines())
    assert 5000 < sum(spent["spent"]) + sum(sum(line["bill"]) for line in lines if "got" in line) <= 10_000


# ---- how long to wait ----

SOON = datetime.now(UTC) + timedelta(hours=1)
LEFT = {"x-ratelimit-remaining-requests": "0"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "2s"}, 2),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "1e9"}, 1e9),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1.2.3s"}, None),
        ({"retry-after": "Wed, 01 Jan 99999 00:00:00 GMT"}, None),
        ({"retry-after": "1 minute 30 Seconds"}, 90),
        ({"retry-after": "5 hrs"}, 18000),
        ({"retry-after": "500 milliseconds"}, 0.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "20"}, 0.02),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}, 0),
        (LEFT | {"x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        (LEFT | {"x-ratelimit-reset-requests": "1d2h0m0s"}, 93600),
        (LEFT | {"x-ratelimit-reset-requests": "7"}, 7),
        (LEFT | {"x-ratelimit-reset-requests": SOON.isoformat()}, 3600),
        (LEFT | {"x-ratelimit-reset-requests": SOON.strftime("%Y-%m-%dT%H:%M:%SZ")}, 3600),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(SOON.timestamp()))}, 3600),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(1000 * SOON.timestamp()))}, 3600),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "1m"}, None),
        ("Please try again in 7m12s.", 432),
        ("Please retry after 5 seconds", 5),
        ("Retry after 60", 60),
        ("Try again after 2026-11-28", None),
        ("Your limit resets in about 5 minutes", 300),
        ("Expected available in 20 seconds.", 20),
        ("Rate limit exceeded. Please wait 40000 seconds before retrying.", 40000),
        ({"ratelimit-reset": "30"}, 30),
        ({}, None),
    ],
)
def test_pause_that_an_endpoint_asks_for(headers, seconds):
    found = asked_pause({}, headers) if isinstance(headers, str) else asked_pause(headers)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=900 if seconds == 3600 else 1e-6))


@pytest.mark.parametrize("says_when", [True, False])
def test_endpoint_with_a_rate_limit_is_respected(says_when, path):
    """30 requests per half second, refused above; the run adapts, finishes, and wastes few requests."""
    times, refused = deque(), Counter()

    async def answer(_, body):
        now = asyncio.get_running_loop().time()
        while times and times[0] < now - 0.5:
            times.popleft()
        if len(times) >= 30:
            refused["all"] += 1
            return Answer({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.2"} if says_when else {})
        times.append(now)
        return good(_, body)

    patient = selfchat.Limits(attempts=20, first_wait=0.05)
    with serving(answer) as url:
        report = collect(url, path, 40, limits=patient, concurrency=24)
    assert (report.made, report.failed) == (40, 0)
    assert refused["all"] < 120, "more refusals than requests that were needed"


def test_the_rate_limiter_never_passes_more_than_its_limits_in_any_window(monkeypatch):
    monkeypatch.setattr(client, "WINDOW", 0.4 * 1.02)

    async def send():
        rate, sent = RateLimiter(requests=10, tokens=400), []

        async def one(tokens):
            entry = await rate.turn(100)
            sent.append((asyncio.get_running_loop().time(), tokens))
            await asyncio.sleep(0.01)
            rate.correct(entry, tokens)

        await asyncio.gather(*(one(30 + i % 20) for i in range(40)))
        return sent

    sent = asyncio.run(send())
    for i, (start, _) in enumerate(sent):
        window = [tokens for time, tokens in sent[i:] if time < start + 0.4]
        assert len(window) <= 10 and sum(window) <= 400


# ---- what some refuse ----

UNKNOWN = 'Invalid JSON payload received. Unknown name "stop": Cannot find field.'
BOTH = "`temperature` and `top_p` cannot both be specified for this model."
INSTEAD = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
ONLY = {"message": "'temperature' does not support 0.7. Only the default (1) is supported.", "param": "temperature"}
REFUSALS = {  # a parameter, how it is refused: (status, body), and what is sent in its place
    "max_tokens": (400, {"error": {"message": INSTEAD, "param": "max_tokens"}}, "max_completion_tokens"),
    "seed": (422, {"message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}}, None),
    "frequency_penalty": (400, {"error": {"message": "Penalty is not enabled for this model"}}, None),
    "presence_penalty": (400, {"error": "Argument not supported on this model: presencePenalty"}, None),
    "temperature": (400, {"error": ONLY}, None),
    "top_p": (400, {"error": {"message": "This model no longer supports top_p"}}, None),
    "top_p ": (400, {"error": {"message": BOTH}}, None),
    "stop": (400, [{"error": {"message": UNKNOWN}}], None),
}
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "frequency_penalty": 0.1, "presence_penalty": 0.1}


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_parameter_that_is_refused_is_learned_once_and_said_once(name, by_hand, path, capsys):
    status, refusal, other = REFUSALS[name]
    asked, name = [], name.strip()

    async def answer(_, body):
        asked.append(body)
        if name in body:
            return Answer(refusal, status)
        reply = good(_, body).body
        if name == "stop" and is_human(body):  # it goes on to write the other's answer
            reply["choices"][0]["message"]["content"] += "\n[AI] Well."
        return Answer(reply)

    with serving(answer) as url:
        model = teacher.Teacher(url, "m", sampling=SAMPLING, omit={name} if by_hand else ())
        report = collect(url, path, 4, model, concurrency=1)
    assert report.made == 4 and len(asked) == 12 + (not by_hand)
    assert not by_hand or not any(name in body for body in asked)
    assert capsys.readouterr().out.count(f"takes no {name}") == (not by_hand)
    assert other is None or by_hand or all(other in body for body in asked[1:])
    assert "[AI]" not in path.read_text()


@pytest.mark.parametrize("status", [400, 500])
def test_a_system_message_that_is_refused_stands_before_the_first_question(status, path):
    asked = []

    async def answer(_, body):
        asked.append(body["messages"])
        if any(m["role"] == "system" for m in body["messages"]):
            return Answer({"object": "error", "message": "System role not supported", "code": status}, status)
        return good(_, body)

    with serving(answer) as url:
        assert collect(url, path, 2, concurrency=1).made == 2
        assert len(asked) == 7 and asked[1][0]["content"].startswith(f"{selfchat.PERSONA}\n\nWhat is number 0")
        silent = selfchat.Settings(persona="", max_turns=1)
        collect(url, path.with_name("silent.jsonl"), settings=silent)
    assert asked[-1] == [{"role": "user", "content": "What is number 0 good for?"}], "an empty one is not sent"


def test_a_raw_prompt_is_streamed_without_what_the_endpoint_refuses(path):
    async def answer(_, body):
        if "stream_options" in body:
            return Answer({"error": {"message": "Unrecognized request argument supplied: stream_options"}}, 400)
        chunk = json.dumps({"choices": [{"text": "It is.", "finish_reason": "stop"}]})
        return Answer(f"data: {chunk}\n\ndata: [DONE]\n\n".encode(), headers={"Content-Type": "text/event-stream"})

    async def work(seed, asker):
        said.append((await asker.complete("Q", 20, until=lambda text: False)).text)

    said = []
    with serving(answer) as url:
        asyncio.run(client.ask_all(make_seeds(2), work, teacher.Teacher(url, "m"), path, limits=QUICK))
    assert said == ["It is."] * 2


# ---- models that think ----

THOUGHTS = "The user wants\n[Human] a question\n[AI] an answer\nGood."
THINKING = {  # how thoughts come, and the message of an answer "It is." after them
    "block": {"content": f"<think>\n{THOUGHTS}\n</think>\n\nIt is."},
    "opened by the template": {"content": f"{THOUGHTS}\n</think>\nIt is."},
    "channel": {"content": f"<|channel|>analysis<|message|>{THOUGHTS}<|end|><|channel|>final<|message|>It is."},
    "field": {"content": "It is.", "reasoning_content": THOUGHTS},
    "parts that say text": {
        "content": [{"type": "reasoning_text", "text": THOUGHTS}, {"type": None, "text": "It is."}]
    },
    "brackets": {"content": f"[THINK]{THOUGHTS}[/THINK]It is."},
    "marks": {"content": f"<|START_THINKING|>{THOUGHTS}<|END_THINKING|><|START_RESPONSE|>It is."},
    "channel, its marks lost": {"content": f"analysis{THOUGHTS}assistantfinalIt is."},
    "parts": {"content": [{"type": "thinking", "thinking": THOUGHTS}, {"type": "text", "text": "It is."}]},
}


@pytest.mark.parametrize("name", THINKING)
def test_thoughts_are_no_dialogue(name, path):
    async def answer(_, body):
        reply = completion("")
        reply["choices"][0]["message"] |= THINKING[name]
        return Answer(reply)

    with serving(answer) as url:
        collect(url, path, settings=selfchat.Settings(max_turns=1))
    [dialogue] = corpus.read(path)
    assert dialogue.messages[1]["content"] == "It is."


@pytest.mark.parametrize("name", ["block", "field", "hidden"])
def test_where_thoughts_take_all_the_room_more_is_asked_for_at_little_effort(name, path):
    """With it the answer comes; where there is still too little, the seed says so."""
    asked = []

    async def answer(_, body):
        asked.append(body)
        enough = body["max_tokens"] > 40 and "number 0" in str(body)
        short = {"block": {"content": "<think>Hm"}, "field": {"reasoning_content": "Hm"}, "hidden": {}}
        message = THINKING.get(name, {"content": "It is."}) if enough else short[name]
        reply = completion("", "stop" if enough else "length")
        reply["choices"][0]["message"] |= message
        return Answer(reply)

    with serving(answer) as url:
        report = collect(url, path, 2, settings=selfchat.Settings(max_turns=1, answer_tokens=40), concurrency=1)
    assert (report.made, reasons(path)) == (1, {"s-1": "no whole exchange (thoughts)"})
    assert [(b["max_tokens"], b.get("reasoning_effort")) for b in asked] == [(40, None)] + 2 * [(1064, "low")]


@pytest.mark.parametrize("first", [None, {"token": "It", "logprob": -1}, {"token": "It", "top_logprobs": None}])
def test_probabilities_that_nobody_asked_for_may_have_any_shape(first, path):
    async def answer(_, body):
        reply = completion("It is.")
        reply["choices"][0]["logprobs"] = {"content": [first]}
        return Answer(reply)

    with serving(answer) as url:
        assert collect(url, path, settings=selfchat.Settings(max_turns=1)).made == 1


# ---- why an answer ends ----


@pytest.mark.parametrize(
    ("finish", "text", "made"),
    [
        *[(finish, "It is.", True) for finish in ("stop", None, "eos_token", "end_turn", "STOP", "unheard_of")],
        *[(finish, "It is so. And it", True) for finish in ("length", "max_tokens", "MAX_TOKENS", "model_length")],
        ("model_context_window_exceeded", "It is so. And it", True),
        ("length", "No end in sight", "length"),
        *[(finish, "I", "content_filter") for finish in ("content_filter", "SAFETY", "FINISH_REASON_RECITATION")],
        *[(f"{filter}", "I", "content_filter") for filter in ("content_filter: OTHER", "guardrail_intervened")],
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "Half", "the endpoint broke off its answer"),
        ("stop", "", "empty"),
        ("stop", None, "empty"),
        ("tool_calls", None, "empty"),
        ("insufficient_system_resource", "Half", "the endpoint broke off its answer"),
    ],
)
def test_an_answer_is_whole_cut_filtered_or_a_fault(finish, text, made, path):
    async def answer(_, body):
        return Answer(completion(text, finish))

    with serving(answer) as url:
        collect(url, path, settings=selfchat.Settings(max_turns=1))
    if made is True:
        [dialogue] = corpus.read(path)
        assert dialogue.messages[1]["content"] == text.removesuffix(" And it")
    else:
        assert made in reasons(path)["s-0"]


def test_a_refusal_is_recorded_in_its_words(path):
    async def answer(_, body):
        reply = completion(None)
        reply["choices"][0]["message"]["refusal"] = "I can't\ndo that."
        return Answer(reply)

    with serving(answer) as url:
        collect(url, path)
    assert reasons(path) == {"s-0": "no whole exchange (refusal: I can't do that.)"}
