"""Requests to endpoints as they are: faults that pass and faults that stay, what is fatal, what is billed, how long to
wait, what some refuse, and the shapes in which answers come. What self-chat makes of them; judges and replies share it.
"""

import asyncio
import json
from collections import Counter, deque
from datetime import UTC, datetime, timedelta

import pytest
from endpoints import Answer, completion, make_seeds, serving

from baize_nb import client, corpus, selfchat, teacher
from baize_nb.client import RateLimiter
from baize_nb.common import CourseError
from baize_nb.faults import asked_pause

SETTINGS = selfchat.Settings(max_turns=2, answer_tokens=40, question_tokens=24)
KEY = "sk-secret-123"
QUICK = selfchat.Limits(attempts=3, first_wait=0.01, timeout=1.0)


def collect(url, path, seeds=1, model=None, **options):
    options = {"settings": SETTINGS, "limits": QUICK, "strategy": "two-role", "progress": False} | options
    return asyncio.run(selfchat.collect(make_seeds(seeds), model or teacher.Teacher(url, "m", KEY), path, **options))


def reasons(path):
    return {r["id"]: r["reason"] for r in map(json.loads, path.with_name("failed.jsonl").read_text().splitlines())}


def giving(answer):
    """An endpoint that answers every request the same."""

    async def same(*_):
        return answer

    return serving(same)


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


def slow(status, message, **headers):
    return Answer({"error": {"message": message}}, status, headers)


FAULTS = {
    "429 with Retry-After": slow(429, "slow", **{"Retry-After": "0.05"}),
    "429 of a minute's quota": slow(429, "You exceeded your current quota. Please retry in 0.02s"),
    "500 of a slow model": Answer({"error": "context deadline exceeded"}, 500),
    "503 with HTML": Answer(b"<html>busy</html>", 503, {"Content-Type": "text/html"}),
    "529 with Retry-After 0": slow(529, "Overloaded", **{"Retry-After": "0"}),
    "reset": Answer(fault="reset"),
    "time-out": Answer(fault="hang"),
    "half a body": Answer(completion("Half."), fault="cut"),
    "no JSON": Answer(b'{"choices": [{"mess'),
    "HTML with 200": Answer(b"<html>welcome</html>", 200, {"Content-Type": "text/html"}),
    "nothing": Answer(b""),
    "null for a choice": Answer(completion("x") | {"choices": [None]}),
    "no message": Answer(completion("x") | {"choices": [{"index": 0, "message": None}]}),
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
    assert sorted((d.id, d.license) for d in corpus.read(path)) == [(f"s-{i}", "Apache-2.0") for i in range(4)]


# ---- what a refusal means ----

FATAL = {
    "wrong key": (401, {"message": "Incorrect API key provided: " + KEY}, "refused the key"),
    "wrong key, Gemini": (400, {"message": "API key not valid.", "status": "INVALID_ARGUMENT"}, "refused the key"),
    "empty account": (402, {"message": "Insufficient Balance"}, 'no quota left.*"Insufficient Balance".*Add credit'),
    "empty account, 429": (429, {"message": "x", "code": "insufficient_quota"}, "no quota left"),
    "budget of a proxy": (400, {"message": "Budget has been exceeded! Max: 5"}, "no quota left.*Max: 5"),
    "unknown model": (
        404,
        {"message": "No such model", "code": "model_not_found"},
        "has no model .m.*has: gpt-a, gpt-b",
    ),
    "unknown model, Mistral": (400, {"message": "Invalid model: m", "type": "invalid_model"}, "BAIZE_TEACHER_MODEL"),
    "model that is gone": (400, {"message": "gone", "code": "model_decommissioned"}, "has no model.*has: gpt-a, gpt-b"),
    "name with a dot": (404, {"message": "models/gem-1.5-pro is not found for API version v1"}, "has no model"),
    "model of other keys": (401, {"message": "key not allowed to access model."}, "has no model"),
    "wrong path, under 200": (200, "Unexpected endpoint or method.", "does not know this request"),
    "wrong path": (404, {"message": "Not Found"}, "does not know this request.*BAIZE_TEACHER_URL"),
    "region": (403, {"message": "Country, region, or territory not supported"}, "does not serve the place"),
    "whatever, always": (400, {"message": "Says no"}, "refused the first 5 requests: HTTP 400: Says no"),
    "a firewall": (403, {"message": "no"}, "refused the first 5 requests: HTTP 403: no"),
    "a long pause": (429, {"message": "Try again in 26h0m0s"}, "pause of 26 h 00 m"),
    "a long pause, behind a router": (429, {"metadata": {"headers": {"Retry-After": "99999"}}}, "pause of 27 h 46 m"),
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
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert KEY not in str(caught.value) and KEY.encode() not in written
    assert not reasons(path) or "refused the first" in said


FILTERED = {"message": "Your input was flagged by moderation", "metadata": {"reasons": ["violence"]}}
ENDS = {  # the answer from the third request on: (status, error, the dialogue's end or the seed's failure)
    "filter": (400, {"message": "filtered", "code": "content_filter"}, "content_filter"),
    "moderation": (403, FILTERED, "content_filter"),
    "context": (400, {"message": "This model's maximum context length is 4096 tokens"}, "context"),
    "context, TGI": (422, {"message": "`inputs` tokens + `max_new_tokens` must be <= 2048"}, "context"),
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
    ends = [d.end for d in corpus.read(path)]
    assert (reasons(path) == {"s-0": end}) if end.startswith("HTTP") else (ends == [end])


def test_a_text_that_is_flagged_fails_alone(path):
    async def answer(_, body):
        return Answer({"error": FILTERED}, 403) if "number 1 " in str(body) else good(_, body)

    with serving(answer) as url:
        assert collect(url, path, 5).made == 4
    assert reasons(path) == {"s-1": "HTTP 403: Your input was flagged by moderation"}


# ---- what is billed ----


def usage(**counts):
    return completion("It is.") | {"usage": {f"{name}_tokens": n for name, n in counts.items()}}


BILLS = {  # an answer, and what it costs: (tokens read, written), None: the worst case
    "plain": (usage(prompt=20, completion=5, total=25), (20, 5)),
    "thoughts in the total only": (usage(prompt=20, completion=5, total=925), (20, 905)),
    "thoughts beside": (usage(prompt=20, completion=5, reasoning=700), (20, 705)),
    "only thoughts": (completion("", "length") | {"usage": {"prompt_tokens": 20, "total_tokens": 112}}, (20, 92)),
    "none": (completion("It is.") | {"usage": None}, None),
    "an answer streamed unasked": (b'data: {"choices": []}', None),
    "zeros": (usage(prompt=0, completion=0, total=0), None),
    "error under 200": ({"error": {"message": "upstream", "code": 502}}, (0, 0)),
    "error under 200 that is billed": (usage(prompt=20, completion=7) | {"error": {"code": 502}}, (20, 7)),
    "a web page": (b"<html>portal</html>", (0, 0)),
    "an answer torn off": (b'{"choices": [{"mess', None),
}


@pytest.mark.parametrize("name", BILLS)
def test_what_is_billed_is_counted_and_what_cannot_have_been_billed_is_not(name, path):
    body, bill = BILLS[name]
    with giving(Answer(body)) as url:
        collect(url, path, limits=selfchat.Limits(attempts=1), budget=selfchat.Budget(tokens=9999))
    sent, got = (json.loads(line) for line in client.log_path(path).read_text().splitlines()[1:3])
    assert got["bill"] == list(bill if bill else sent["worst"])


def spent(path):
    first, *lines = map(json.loads, client.log_path(path).read_text().splitlines())
    return sum(first["spent"]) + sum(sum(line["bill"]) for line in lines if "got" in line)


@pytest.mark.parametrize("budget", [{"tokens": 10_000}, {"usd": 0.01, "price": (1.0, 1.0)}])
def test_a_cap_holds_over_several_runs_where_answers_are_longer_than_what_was_asked_for(budget, path):
    with giving(Answer(usage(prompt=20, completion=5, total=3020))) as url:
        for _ in range(4):
            report = collect(url, path, 30, budget=selfchat.Budget(**budget), concurrency=8)
    assert 5000 < spent(path) <= 10_000 and " spent, and the next request might take" in report.stopped


# ---- how long to wait ----

LEFT = {"x-ratelimit-remaining-requests": "0"}


RETRY_AFTER = {"0": 0, "2s": 2, "1 minute 30 Seconds": 90, "5 hrs": 18000, "nan": None, "soon": None}
RETRY_AFTER |= {"Wed, 01 Jan 2020 00:00:00 GMT": 0, "Wed, 01 Jan 99999 00:00:00 GMT": None}
RESETS = {"1m2.5s": 62.5, "1d2h0m0s": 93600, "20ms": 0.02}
MOMENTS = ["%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%SZ", "%s", "%s000"]  # in an hour; %s: seconds since 1970
WORDS = {
    "Please try again in 7m12s.": 432,
    "Try again after 2026-11-28": None,
    "Your limit resets in about 5 minutes": 300,
    "Expected available in 20 seconds.": 20,
    "Rate limit exceeded. Please wait 40000 seconds before retrying.": 40000,
}


def test_pause_that_an_endpoint_asks_for():
    assert {text: asked_pause({"retry-after": text}) for text in RETRY_AFTER} == RETRY_AFTER
    assert {text: asked_pause({}, text) for text in WORDS} == WORDS
    assert asked_pause({"retry-after-ms": "20"}) == 0.02 and asked_pause({}) is None
    reset = "x-ratelimit-reset-requests"
    assert {text: asked_pause(LEFT | {reset: text}) for text in RESETS} == RESETS
    assert asked_pause({"x-ratelimit-remaining-requests": "7", reset: "1m"}) is None
    soon = datetime.now(UTC) + timedelta(hours=1)
    for form in MOMENTS:
        moment = soon.strftime(form.replace("%s", str(int(soon.timestamp()))))
        assert asked_pause(LEFT | {reset: moment}) == pytest.approx(3600, abs=60)


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


# ---- models that think ----

THOUGHTS = "The user wants\n[Human] a question\n[AI] an answer\nGood."
THINKING = {  # how thoughts come, and the message of an answer "It is." after them
    "block": {"content": f"<think>\n{THOUGHTS}\n</think>\n\nIt is."},
    "channel": {"content": f"<|channel|>analysis<|message|>{THOUGHTS}<|end|><|channel|>final<|message|>It is."},
    "field": {"content": "It is.", "reasoning_content": THOUGHTS},
    "brackets": {"content": f"[THINK]{THOUGHTS}[/THINK]It is."},
    "channel, its marks lost": {"content": f"analysis{THOUGHTS}assistantfinalIt is."},
    "parts": {"content": [{"type": "thinking", "thinking": THOUGHTS}, {"type": "text", "text": "It is."}]},
}


@pytest.mark.parametrize("name", THINKING)
def test_thoughts_are_no_dialogue(name, path):
    reply = completion("")
    reply["choices"][0]["message"] |= THINKING[name]
    with giving(Answer(reply)) as url:
        collect(url, path, settings=selfchat.Settings(max_turns=1))
    assert corpus.read(path)[0].messages[1]["content"] == "It is."


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


# ---- why an answer ends ----


ENDINGS = {  # what an endpoint gives as the reason: (the text, what is kept, or why there is no dialogue)
    ("It is.", "It is."): ["stop", None, "eos_token", "end_turn", "STOP", "unheard_of"],
    ("It is so. And it", "It is so."): ["length", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded"],
    ("No end in sight", "no whole exchange (length)"): ["length"],
    ("I", "no whole exchange (content_filter)"): ["SAFETY", "FINISH_REASON_RECITATION", "content_filter: OTHER"],
    ("Half", "the endpoint broke off"): ["function_call_filter: MALFORMED_FUNCTION_CALL", "insufficient_resource"],
    ("", "no whole exchange (empty)"): ["stop"],
    (None, "no whole exchange (empty)"): ["stop", "tool_calls"],
}


@pytest.mark.parametrize(("text", "kept", "finish"), [(*texts, f) for texts, names in ENDINGS.items() for f in names])
def test_an_answer_is_whole_cut_filtered_or_a_fault(text, kept, finish, path):
    with giving(Answer(completion(text, finish))) as url:
        report = collect(url, path, settings=selfchat.Settings(max_turns=1), limits=selfchat.Limits(attempts=1))
    if report.made:
        assert corpus.read(path)[0].messages[1]["content"] == kept
    else:
        assert reasons(path)["s-0"].startswith(kept)


def test_a_refusal_is_recorded_in_its_words(path):
    reply = completion(None)
    reply["choices"][0]["message"]["refusal"] = "I can't\ndo that."
    with giving(Answer(reply)) as url:
        collect(url, path)
    assert reasons(path) == {"s-0": "no whole exchange (refusal: I can't do that.)"}
