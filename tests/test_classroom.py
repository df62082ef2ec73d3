"""One teacher for a room: keys, budgets, turns, and 30 students who all ask at once."""

import asyncio
import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections import Counter

import httpx2
import openai
import pytest
from accounts import Account, Accounts, FairQueue, OverBudget, files, read_keys
from classroom import MOST_TOKENS, Room, Upstream
from endpoints import Answer, answering, completion, serving

from baize_nb import selfchat, teacher
from baize_nb.client import Tokens, worst_case
from baize_nb.common import CourseError
from baize_nb.seeds import Seed

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def embedded():
    with teacher.embedded(slots=8) as model:
        yield model


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path))


def in_room(scene, model, students=2, tokens=100_000, places=8):
    """Run scene(room, keys, students' clients) in a room that relays to `model`."""

    async def lesson():
        async with contextlib.AsyncExitStack() as stack:
            accounts = stack.enter_context(Accounts(students, tokens))
            # No TLS is used here, and reading certificates a hundred times would take half a minute.
            web = openai.DefaultAsyncHttpxClient(verify=False)
            own = {} if model.engine else {"http_client": web}
            client = await stack.enter_async_context(model.client(max_retries=0, **own))
            room = Room(accounts, Upstream(model, client), places)
            room.url = f"http://127.0.0.1:{room.listen(0, '127.0.0.1')}/v1"
            stack.push_async_callback(room.stop, 1)
            keys = list(read_keys(files()[0]))
            about = {"base_url": room.url, "http_client": web, "max_retries": 0}
            return await scene(room, keys, [openai.AsyncOpenAI(api_key=key, **about) for key in keys])

    return asyncio.run(lesson())


def used():
    """{student: tokens} as the file says."""
    sums = Counter()
    for line in map(json.loads, files()[1].read_text().splitlines()):
        sums[line["student"]] += line["prompt"] + line["completion"]
    return sums


def test_thirty_students_at_once_lose_nothing_and_share_fairly(embedded):
    """One of them comes first, with twenty requests at once, and gets the eight places; the others have two."""
    order, sums = [], Counter()

    async def ask(client, name):
        reply = await client.chat.completions.create(model=embedded.model, messages=HELLO, max_tokens=4, temperature=0)
        order.append(name)
        sums[name] += reply.usage.total_tokens

    async def scene(room, keys, clients):
        jobs = [(c, f"student-{i:02}") for i, c in enumerate(clients, 1) for _ in range(20 if i == 1 else 2)]
        await asyncio.gather(*(ask(*job) for job in jobs))

    in_room(scene, embedded, students=30)
    assert Counter(order) == {f"student-{i:02}": 20 if i == 1 else 2 for i in range(1, 31)}
    assert used() == sums, "what is written down is what was used"
    last_to_come = max(order.index(name) for name in sums)
    assert order[:last_to_come].count("student-01") <= 10


def order_of(places, *asking):
    """Names in the order in which their turns began. asking: (name, tokens of each request, how many at once), …"""
    order = []

    async def ask(queue, account, tokens):
        async with queue.turn(account, tokens) as turn:
            order.append(account.name)
            turn.used = tokens
            await asyncio.sleep(0)

    async def scene():
        queue, accounts = FairQueue(places, 10_000), {}
        for group in asking:  # one group after the other
            students = [(accounts.setdefault(name, Account(name)), tokens, many) for name, tokens, many in group]
            await asyncio.gather(*(ask(queue, account, t) for account, t, many in students for _ in range(many)))
        assert not queue.running.total() and not any(account.reserved for account in accounts.values())

    asyncio.run(scene())
    return order


def test_turns_go_round_and_shares_are_counted_in_tokens():
    assert order_of(1, [("greedy", 10, 6), ("a", 10, 2), ("b", 10, 2)]) == ["greedy", "a", "b"] * 2 + ["greedy"] * 4
    late = order_of(4, [("early", 10, 8), ("late", 10, 8)])
    assert late[:8] == ["early"] * 4 + ["late"] * 4, "who had all places waits until the others have had as much"
    thrice = Counter(order_of(1, [("long", 30, 9), ("short", 10, 9)])[:12])
    assert thrice == {"long": 3, "short": 9}, "whoever asks for three times as much gets a turn a third as often"
    paused = order_of(1, [("first", 10, 20)], [("second", 10, 5)], [("first", 10, 4), ("second", 10, 4)])
    assert Counter(paused[25:29]) == {"first": 2, "second": 2}, "a pause earns no credit and costs none"


def test_budget_is_never_exceeded_and_waits_for_what_is_under_way():
    """100 tokens; each of five requests may take 60 and takes 20. The fourth is refused."""
    account, queue, ends = Account("a"), FairQueue(4, 100), []

    async def ask():
        try:
            async with queue.turn(account, 60):
                assert account.spent + account.reserved <= 100
                await asyncio.sleep(0)
                account.spent += 20
            ends.append("answered")
        except OverBudget:
            ends.append("refused")

    async def all_at_once():
        await asyncio.gather(*(ask() for _ in range(5)))

    asyncio.run(all_at_once())
    assert ends.count("answered") == 3 and ends.count("refused") == 2 and account.spent == 60


def test_a_student_over_budget_is_told_so_in_a_sentence(embedded):
    """By openai's client, and by self-chat, which finds out the chat format through the room; neither asks again."""

    async def scene(room, keys, clients):
        with pytest.raises(openai.RateLimitError) as caught:
            patient = clients[0].with_options(max_retries=5)
            await patient.chat.completions.create(model=embedded.model, messages=HELLO, max_tokens=500)
        model = teacher.Teacher(room.url, embedded.model, keys[0])
        name = await asyncio.to_thread(selfchat.choose, "auto", model)
        assert (name, model.chat_format) == ("open-header", embedded.chat_format)
        seed = Seed("s-1", "Why is the sky blue?", "own", "Apache-2.0")
        with pytest.raises(CourseError, match="no quota left") as told:
            await selfchat.collect([seed], model, files()[0].with_name("corpus.jsonl"), progress=False)
        return caught.value, str(told.value)

    error, sentence = in_room(scene, embedded, tokens=150)
    assert (error.status_code, error.code) == (429, "insufficient_quota")
    assert "150 of 150 tokens are left" in str(error) and "instructor" in sentence
    assert used().total() < 20, "what is refused costs nothing; finding out the format takes a few tokens"


def test_streaming_passes_every_piece_and_charges_the_same(embedded):
    async def scene(room, keys, clients):
        chat = {"model": embedded.model, "messages": HELLO, "max_tokens": 12, "temperature": 0, "seed": 1}
        whole = await clients[0].chat.completions.create(**chat)
        pieces = [piece async for piece in await clients[0].chat.completions.create(**chat, stream=True)]
        text = {"model": embedded.model, "prompt": "One, two,", "max_tokens": 4, "stream": True}
        raw = [p async for p in await clients[0].completions.create(**text, stream_options={"include_usage": True})]
        return whole, pieces, raw

    whole, pieces, raw = in_room(scene, embedded)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert len(pieces) > 3 and streamed == whole.choices[0].message.content
    assert all(piece.choices for piece in pieces), "usage goes only to those who asked for it"
    assert raw[-1].usage.completion_tokens == 4
    assert used() == {"student-01": 2 * whole.usage.total_tokens + raw[-1].usage.total_tokens}


def test_an_answer_that_is_broken_off_is_charged_and_frees_its_place(embedded):
    async def scene(room, keys, clients):
        stream = await clients[0].completions.create(model=embedded.model, prompt="a", max_tokens=900, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await clients[1].completions.create(model=embedded.model, prompt="One, two,", max_tokens=4)
        return room.queue.running.total()

    assert in_room(scene, embedded, places=1) == 0
    assert 0 < used()["student-01"] < 900


@pytest.mark.parametrize(
    ("path", "key", "body", "status", "said"),
    [
        ("/v1/models", "wrong", None, 401, "does not know that key"),
        ("/v1/files", None, None, 404, "nothing at /v1/files"),
        ("/v1/completions", None, None, 405, "Method Not Allowed"),
        ("/v1/completions", None, b"{", 400, "no JSON"),
        ("/v1/completions", None, {"prompt": "a", "model": "gpt-9"}, 404, "no model 'gpt-9'"),
        ("/v1/chat/completions", None, {"n_predict": 9999}, 400, "does not support 'n_predict'"),
        ("/v1/chat/completions", None, {"messages": []}, 400, "'messages' should be"),
        ("/v1/chat/completions", None, {"messages": [{"role": "user", "content": [{}]}]}, 400, "'messages' should be"),
        ("/v1/chat/completions", None, {"messages": HELLO, "max_tokens": 0}, 400, "'max_tokens' should be"),
        ("/v1/chat/completions", None, {"messages": HELLO, "max_tokens": True}, 400, "'max_tokens' should be"),
        ("/v1/completions", None, {"prompt": "a", "max_completion_tokens": MOST_TOKENS + 1}, 400, "at most"),
        ("/v1/completions", None, {"prompt": "a", "stream_options": "yes"}, 400, "'stream_options' should be"),
    ],
)
def test_refusals_have_the_form_of_openai(path, key, body, status, said):
    async def scene(room, keys, clients):
        async with httpx2.AsyncClient() as web:
            method = "GET" if body is None else "POST"
            content = body if isinstance(body, bytes | None) else json.dumps(body)
            headers = {"Authorization": f"Bearer {key or keys[0]}"}
            return await web.request(method, room.url.removesuffix("/v1") + path, content=content, headers=headers)

    reply = in_room(scene, teacher.Teacher("http://127.0.0.1:9/v1", "m"))
    error = reply.json()["error"]
    assert reply.status_code == status and set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]


@pytest.mark.parametrize(
    ("status", "words", "seen", "said"),
    [
        (401, "Incorrect API key sk-real-key", 503, "Tell your instructor"),
        (403, "Your key may not use this model: sk-real-key", 503, "Tell your instructor"),
        (429, "You exceeded your current quota", 503, "Tell your instructor"),
        (404, "The model `m` does not exist", 503, "Tell your instructor"),
        (429, "Slow down", 429, "asked too often"),
        (500, "oh", 503, "has a fault"),
        (400, "the prompt is too long", 400, "the prompt is too long"),
        (403, "Your input was flagged by moderation", 403, "flagged by moderation"),
        (400, "The response was filtered by the content management policy", 400, "content management policy"),
        (403, "<html><title>Blocked</title> by the school's firewall</html>", 503, "has a fault"),
        (200, "<html><title>Log in</title></html>", 503, "does not answer"),
        (200, "", 503, "does not answer"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_of_the_teacher_behind_it(status, words, seen, said, stream):
    """The student is told what concerns them, never the instructor's key, never a page of HTML; nothing is charged."""
    body = words if words.startswith("<") else json.dumps({"error": {"message": words}} if words else {})

    async def scene(room, keys, clients):
        with pytest.raises(openai.APIStatusError) as caught:
            await clients[0].chat.completions.create(model="m", messages=HELLO, stream=stream)
        return caught.value

    with answering(status, body) as upstream:
        error = in_room(scene, teacher.Teacher(upstream, "m", "sk-real-key"))
    assert error.status_code == seen and said in str(error) and "sk-real" not in str(error) and "<" not in str(error)
    assert not files()[1].read_text()


@pytest.mark.parametrize(
    ("usage", "more", "billed"), [((9, 2), {}, 11), ((0, 0), {}, 0), ((7, 0), {}, 0), ((0, 3), {"n": 3}, 0)]
)
def test_the_students_key_stays_here_and_a_usage_of_zeros_is_not_free(usage, more, billed):
    asked, seen = {"model": "m", "messages": HELLO, "max_tokens": 5} | more, []

    async def answer(path, body):
        seen.append((path, body))
        return Answer(completion("Hello!", usage=usage))

    async def scene(room, keys, clients):
        reply = await clients[0].chat.completions.create(**asked)
        assert not any(key in files()[1].read_text() for key in keys)
        return reply

    with serving(answer) as upstream:
        reply = in_room(scene, teacher.Teacher(upstream, "m", "sk-real-key"))
    assert reply.choices[0].message.content == "Hello!" and seen == [("/v1/chat/completions", asked)]
    worst = worst_case({"messages": HELLO, "max_tokens": 5 * more.get("n", 1)})
    assert used() == {"student-01": billed or sum(worst)}


@pytest.mark.skipif(os.name == "nt", reason="file modes and SIGINT are POSIX's")
def test_the_command_shows_keys_once_keeps_them_private_and_stops_by_ctrl_c(embedded):
    command = [sys.executable, "tools/classroom.py", "--students", "3", "--port", "0", "--tokens", "5000"]

    def start():
        env = os.environ | {"BAIZE_TEACHER_URL": embedded.base_url}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        said = ""
        while "Ctrl-C" not in said and (line := process.stdout.readline()):
            said += line
        return process, said

    process, said = start()
    keys, url = re.findall(r"room-\S+", said), re.search(r"BAIZE_TEACHER_URL=(http://127.0.0.1:\S+)", said)[1]
    assert len(set(keys)) == 3 and stat.S_IMODE(files()[0].stat().st_mode) == 0o600
    with openai.OpenAI(base_url=url, api_key=keys[2]) as client:
        assert [m.id for m in client.models.list()] == [embedded.model]
        client.completions.create(model=embedded.model, prompt="One, two,", max_tokens=2)
    complaint = subprocess.run(command, capture_output=True, text=True).stderr
    assert "Another process is writing" in complaint and "Traceback" not in complaint
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and not errors and not any(key in rest for key in keys)
    assert re.search(r"student-03\s+1\s+\d+", rest)
    process, said = start()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert "room-" not in said and "0 new keys" in said


SAVED = {
    "as it was": lambda text: text,
    "BOM": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "semicolons, cp1252": lambda text: text.replace(",", ";").replace("student-02", "Bäcker").encode("cp1252"),
    "tabs, UTF-16": lambda text: text.replace(",", "\t").encode("utf-16"),
    "header, empty lines": lambda text: "Name,Key\n" + text + "\n,\n",
    "spaces, no end": lambda text: text.replace(",", " , ").rstrip("\n"),
    "columns": lambda text: text.replace("student-01", '"Doe, Jo"').replace("room-", "jo@example.org,room-"),
}


@pytest.mark.parametrize("saved", SAVED)
def test_keys_that_were_in_a_spreadsheet(saved):
    """None is lost, nor what was used by it, though the student has another name now; new ones come on top."""
    with Accounts(2, 1000) as accounts:
        keys = [key for _, key in accounts.new]
        for key in keys:
            asyncio.run(accounts.charge(accounts.of(key), Tokens(400, 500)))
    with files()[1].open("a") as file:
        file.write('{"student": "student-01", "pro')  # killed in the middle of a line
    content = SAVED[saved](files()[0].read_text())
    files()[0].write_bytes(content if isinstance(content, bytes) else content.encode())
    for new in (2, 0):
        with Accounts(4, 1000) as accounts:
            assert [accounts.of(key).spent for key in keys] == [900, 900] and len(accounts.new) == new
    assert stat.S_IMODE(files()[0].stat().st_mode) == 0o600 or os.name == "nt"


@pytest.mark.parametrize("line", ["jo\n", "jo,{key}\n", "jo,a,b\n"])
def test_a_broken_line_of_keys_is_named(line):
    with Accounts(1, 10) as accounts:
        key = accounts.new[0][1]
    with files()[0].open("a") as file:
        file.write(line.format(key=key))
    with pytest.raises(CourseError, match=r"keys\.csv:2: "), Accounts(1, 10):
        pass
