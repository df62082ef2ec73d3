"""The teacher: which one is picked, what it says when something is wrong, and that the embedded one goes away."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest
from endpoints import answering

from baize_nb import models, teacher
from baize_nb.common import CourseError


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


def test_embedded_teacher_chats_and_completes(embedded):
    async def talk():
        async with embedded.client() as client:
            chat = await client.chat.completions.create(
                model=embedded.model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=8
            )
            raw = await client.completions.create(model=embedded.model, prompt="One, two,", max_tokens=4)
        return chat, raw

    chat, raw = asyncio.run(talk())
    assert chat.choices[0].message.content.strip()
    assert 0 < chat.usage.completion_tokens <= 8
    assert 0 < raw.usage.completion_tokens <= 4


def test_embedded_teacher_listens_on_loopback_only(embedded):
    assert embedded.base_url.startswith("http://127.0.0.1:")
    assert embedded.check() is embedded


def test_two_embedded_teachers_get_two_ports(embedded):
    with teacher.embedded(slots=1) as second:
        assert second.base_url != embedded.base_url


def test_close_releases_the_port_even_in_mid_reply():
    model = teacher.embedded(slots=1)

    async def cut_off():
        async with model.client(max_retries=0) as client:
            stream = await client.completions.create(model=model.model, prompt="a", max_tokens=400, stream=True)
            await anext(aiter(stream))
            model.close()

    asyncio.run(cut_off())
    assert not answers(model.base_url)
    model.close()


def test_exception_inside_with_releases_the_engine():
    with pytest.raises(RuntimeError), teacher.embedded(slots=1) as model:
        assert answers(model.base_url)
        raise RuntimeError
    assert not answers(model.base_url)


def test_a_teacher_that_is_started_again_ends_the_one_before():
    """A cell that is run once more: the name gets a new teacher, and nothing else holds the old one."""
    model = teacher.embedded(slots=1)
    before = model.base_url
    model = teacher.embedded(slots=1)
    assert answers(model.base_url) and not answers(before)
    model.close()


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal; on Windows the pipe closes the same way")
def test_engine_ends_when_its_process_is_killed():
    code = "from baize_nb import teacher; m = teacher.embedded(slots=1); print(m.base_url, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = process.stdout.readline().strip()
    assert answers(url)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(100):
        if not answers(url):
            break
        signal.sigtimedwait([], 0.1)
    assert not answers(url)


def test_from_env_prefers_url_then_key_then_embedded(monkeypatch, capsys):
    assert teacher.choice()[0] == "embedded"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    assert teacher.choice()[0] == "openai"
    monkeypatch.setenv("BAIZE_TEACHER_URL", "http://127.0.0.1:1/v1")
    assert teacher.choice()[0] == "url"


def test_from_env_takes_the_first_model_an_address_lists(embedded, monkeypatch, capsys):
    monkeypatch.setenv("BAIZE_TEACHER_URL", embedded.base_url)
    with teacher.from_env() as model:
        assert model.model == models.NAME
    assert embedded.base_url in capsys.readouterr().out
    assert answers(embedded.base_url), "closing a teacher at an address must not end somebody else's server"


def test_unknown_model_is_named_with_those_that_exist(embedded, monkeypatch):
    monkeypatch.setenv("BAIZE_TEACHER_URL", embedded.base_url)
    monkeypatch.setenv("BAIZE_TEACHER_MODEL", "no-such-model")
    with pytest.raises(CourseError, match=rf"no-such-model.*{models.NAME}"):
        teacher.from_env()


def test_endpoint_that_is_down_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setenv("BAIZE_TEACHER_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(CourseError, match=r"Nothing answers at http://127\.0\.0\.1:9/v1.*BAIZE_TEACHER_URL"):
        teacher.from_env()


def test_wrong_key_is_one_sentence_without_the_key(monkeypatch):
    with answering(401, '{"error": {"message": "bad key"}}') as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
        with pytest.raises(CourseError, match="refused the key") as caught:
            teacher.from_env()
    assert "sk-secret-123" not in str(caught.value)


def test_empty_quota_is_told_apart_from_a_rate_limit(monkeypatch):
    with answering(429, '{"error": {"message": "pay", "code": "insufficient_quota"}}') as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        with pytest.raises(CourseError, match=r"no quota left.*instructor.*BAIZE_TEACHER_URL"):
            teacher.from_env()


def test_a_key_is_never_shown():
    assert "sk-secret-123" not in repr(teacher.Teacher("http://x/v1", "m", "sk-secret-123"))


def test_openai_without_a_key_says_so(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(CourseError, match="OPENAI_API_KEY is not set"):
        teacher.openai()


@pytest.mark.parametrize("key", ["“sk-secret-123”", "sk-secret\n-123"])
def test_key_that_no_header_can_hold_is_refused_without_being_shown(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    for ask in (teacher.openai, teacher.from_env):
        with pytest.raises(CourseError, match="OPENAI_API_KEY holds a character") as caught:
            ask()
        assert "secret" not in str(caught.value)


def test_embedded_teacher_is_reached_past_a_proxy(monkeypatch):
    """A proxy that is set for all addresses, and where nothing listens."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def ask(model):
        async with model.client(max_retries=0) as client:
            return [found.id async for found in client.models.list()]

    with teacher.embedded(slots=1) as model:
        assert asyncio.run(ask(model)) == [model.model]
