"""The teacher: which one is picked, what it says when something is wrong, and that the embedded one goes away."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import openai
import pytest
from endpoints import Answer, answering, serving

from baize_nb import models, teacher
from baize_nb.client import price_of
from baize_nb.common import CourseError
from baize_nb.faults import explained
from baize_nb.teacher import Teacher


def answers(url):
    """Whether anything listens at an address."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.socket() as s:
        s.settimeout(2)
        return s.connect_ex((host, int(port))) == 0


@pytest.fixture(scope="module")
def embedded():
    with teacher.embedded(slots=4) as model:
        yield model


def test_embedded_teacher_chats_and_completes_on_loopback_past_a_proxy(embedded, monkeypatch):
    """A proxy that is set for all addresses, and where nothing listens."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    with embedded.client(blocking=True, max_retries=0) as client:
        hello = [{"role": "user", "content": "Say hello."}]
        chat = client.chat.completions.create(model=embedded.model, messages=hello, max_tokens=8)
        raw = client.completions.create(model=embedded.model, prompt="One, two,", max_tokens=4)
    assert chat.choices[0].message.content.strip()
    assert 0 < chat.usage.completion_tokens <= 8 and 0 < raw.usage.completion_tokens <= 4
    assert embedded.base_url.startswith("http://127.0.0.1:")
    assert embedded.models() == [models.NAME] and embedded.check() is embedded


def test_engines_end_when_they_are_closed_left_or_started_anew():
    """Two at a time have two ports. Closed in mid-reply; left by an exception; the name given to another (a cell
    that is run once more)."""
    model = teacher.embedded(slots=1)
    with pytest.raises(RuntimeError), teacher.embedded(slots=1) as second:
        assert answers(second.base_url) and answers(model.base_url)
        raise RuntimeError
    assert not answers(second.base_url)
    before, model = model.base_url, second
    assert not answers(before)

    model = teacher.embedded(slots=1)

    with model.client(blocking=True, max_retries=0) as client:
        next(iter(client.completions.create(model=model.model, prompt="a", max_tokens=400, stream=True)))
        model.close()
    assert not answers(model.base_url)
    model.close()


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal; on Windows the pipe closes the same way")
def test_engine_ends_when_its_process_is_killed():
    code = "from baize_nb import teacher; m = teacher.embedded(slots=1); print(m.base_url, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = process.stdout.readline().strip()
    assert answers(url)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers(url)


def test_from_env_prefers_url_then_key_then_embedded(embedded, monkeypatch, capsys):
    assert teacher.choice()[0] == "embedded"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    assert teacher.choice()[0] == "openai"
    monkeypatch.setenv("BAIZE_TEACHER_URL", embedded.base_url)
    assert teacher.choice()[0] == "url"
    with teacher.from_env() as model:
        assert model.model == models.NAME, "the first model that the address lists"
    assert embedded.base_url in capsys.readouterr().out
    assert answers(embedded.base_url), "closing a teacher at an address must not end somebody else's server"


def test_a_gguf_file_is_a_teacher_and_its_path_is_nowhere_shown(tmp_path, monkeypatch, capsys):
    (tmp_path / "another.gguf").symlink_to(models.gguf())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    monkeypatch.setenv("BAIZE_TEACHER", "embedded")
    assert teacher.choice()[0] == "embedded"
    monkeypatch.setenv("BAIZE_TEACHER", str(tmp_path / "another.gguf"))
    with teacher.from_env(slots=1) as model:
        assert model.models() == [model.model] == ["another"] and price_of(model) == (0.0, 0.0)
    assert "Teacher: another.gguf" in capsys.readouterr().out
    assert str(tmp_path) not in f"{model} {teacher.choice()}"
    monkeypatch.setenv("BAIZE_TEACHER", str(tmp_path))
    with pytest.raises(CourseError, match=r"no GGUF file.*transformers serve.*BAIZE_TEACHER_URL"):
        teacher.from_env()


def test_a_key_is_asked_for_and_never_shown(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(CourseError, match="OPENAI_API_KEY is not set"):
        teacher.openai()
    assert "sk-secret-123" not in repr(Teacher("http://x/v1", "m", "sk-secret-123"))
    for key in ("“sk-secret-123”", "sk-secret\n-123"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        for ask in (teacher.openai, teacher.from_env):
            with pytest.raises(CourseError, match="OPENAI_API_KEY holds a character") as caught:
                ask()
            assert "secret" not in str(caught.value)


# ---- lists of models ----


def entries(*ids):
    return {"object": "list", "data": [{"id": id, "object": "model"} for id in ids]}


SCOPES = {"error": {"message": "You have insufficient permissions. Missing scopes: model.read."}}
LISTS = {  # name: (HTTP status, body, the model that is taken where none is named, or what is said)
    "first that chats": (200, entries("text-embedding-3", "whisper-1", "m", "n"), "m"),
    "ids missing": (200, {"data": [{"id": None}, {}, {"id": "m"}]}, "m"),
    "first page of many": (200, entries("other") | {"has_more": True}, "other"),
    "null": (200, {"object": "list", "data": None}, CourseError("lists no model. Name one in BAIZE_TEACHER_MODEL")),
    "names": (200, {"data": ["m", 7]}, CourseError("lists no model")),
    "a list": (200, [{"id": "m"}], CourseError("lists no model")),
    "a number": (200, 5, CourseError("lists no model")),
    "web page": (200, b"<html>portal</html>", CourseError("lists no model")),
    "missing": (404, {"detail": "Not Found"}, CourseError(r"does not list its models \(HTTP 404: Not Found\)")),
    "forbidden": (403, SCOPES, CourseError("HTTP 403: You have insufficient permissions")),
    "scope missing": (401, SCOPES, CourseError("HTTP 401: You have insufficient permissions")),
    "loading": (503, {"error": {"message": "Loading model"}}, CourseError("HTTP 503: Loading model")),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_models_is_never_in_the_way_of_a_model_that_is_named(name, monkeypatch):
    status, listed, found = LISTS[name]

    async def answer(path, asked):
        return Answer(listed, status)

    with serving(answer) as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        monkeypatch.setenv("BAIZE_TEACHER_MODEL", "m")
        assert teacher.from_env().model == "m"
        monkeypatch.setenv("BAIZE_TEACHER_MODEL", "")
        if isinstance(found, CourseError):
            with pytest.raises(CourseError, match=str(found)):
                teacher.from_env()
        else:
            assert teacher.from_env().model == found


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, {"message": "Incorrect API key provided: sk-secret-123"}, r"refused the key \(HTTP 401"),
        (402, {"message": "Insufficient Balance"}, 'no quota left .HTTP 402: "Insufficient Balance".*instructor'),
        (429, {"message": "pay", "code": "insufficient_quota"}, r"no quota left.*instructor.*BAIZE_TEACHER_URL"),
    ],
)
def test_a_wrong_key_and_an_empty_account_are_said_at_once(status, error, said, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    with answering(status, json.dumps({"error": error})) as url, pytest.raises(CourseError, match=said) as caught:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        teacher.from_env()
    assert "sk-secret" not in str(caught.value)


# ---- the way to the endpoint ----


@pytest.mark.parametrize(
    ("url", "proxies", "said"),
    [
        (
            "http://127.0.0.1:9/v1",
            {},
            r"Nothing answers at http://127\.0\.0\.1:9/v1.*No proxy is set.*BAIZE_TEACHER_URL",
        ),
        ("http://127.0.0.1:1/v1", {"HTTP_PROXY": "127.0.0.1:9"}, "Nothing answers.*A proxy is set in HTTP_PROXY"),
        ("http://x.invalid/v1", {"ALL_PROXY": "socks://127.0.0.1:9"}, r"ALL_PROXY.*socks5://.*pip install socksio"),
        ("http://x.invalid/v1", {"ALL_PROXY": "socks5://127.0.0.1:9"}, r"ALL_PROXY.*pip install socksio"),
        ("http://x.invalid/v1", {"HTTP_PROXY": "PROXY"}, r"The proxy on the way.*refuses.*407.*NO_PROXY"),
        ("https://x.invalid/v1", {"HTTPS_PROXY": "PROXY"}, "The proxy on the way.*refuses.*HTTPS_PROXY"),
        ("api.x.invalid/v1", {}, "does not know this request.*protocol.*BAIZE_TEACHER_URL"),
    ],
)
def test_what_stands_in_the_way_is_said_in_a_sentence(url, proxies, said, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with answering(407, "Proxy Authentication Required") as proxy:
        host = proxy.removesuffix("/v1")
        for name, value in proxies.items():
            monkeypatch.setenv(name, value.replace("PROXY", host))
        with pytest.raises(CourseError, match=said):
            Teacher(url, "m", "k").check()


def test_a_certificate_of_ones_own_is_named_with_the_setting():
    error = openai.APIConnectionError(request=None)
    error.__cause__ = ssl.SSLCertVerificationError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert "SSL_CERT_FILE" in str(explained(error, Teacher("https://localhost/v1", "m", "k")))


# ---- prices ----


@pytest.mark.parametrize(
    ("url", "model", "price"),
    [
        (teacher.OPENAI_URL, "gpt-4o-mini", (0.15, 0.60)),
        (teacher.OPENAI_URL, teacher.OPENAI_MODEL, "known"),
        ("https://openrouter.ai/api/v1", "deepseek/deepseek-r1", "known"),
        ("https://example.com/v1", "home-made", None),
        ("http://127.0.0.1:11434/v1", "deepseek-r1", None),
        ("http://192.168.0.7:8000/v1", "gpt-4o-mini", None),
        ("http://ollama:11434/v1", "gpt-4o-mini", None),
    ],
)
def test_a_price_is_that_of_provider_and_model_and_a_local_address_has_none(url, model, price):
    found = price_of(Teacher(url, model))
    if price == "known":
        assert len(found) == 2 and 0 < found[0] < found[1]
    else:
        assert found == (price and pytest.approx(price))


def test_a_model_that_thinks_is_asked_with_room_for_it():
    body = {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 40}
    asked = Teacher(teacher.OPENAI_URL, teacher.OPENAI_MODEL).adapted("chat", body)
    assert asked["max_completion_tokens"] == 40 + teacher.THOUGHTS and "max_tokens" not in asked
    assert asked["reasoning_effort"] == "low"
    assert Teacher(teacher.OPENAI_URL, "gpt-4o-mini").adapted("chat", body) == body
    assert Teacher("http://x/v1", "m", omit={"max_tokens"}).adapted("chat", body) == {"messages": body["messages"]}
