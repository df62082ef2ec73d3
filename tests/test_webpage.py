"""The tuned model as a web page: the same words as llama.cpp's, no request to anybody else, nothing taken for HTML."""

import base64
import contextlib
import hashlib
import itertools
import json
import math
import re
import shutil

import openai
import pytest
from lab import executable

from baize_nb import common, finetune, models, webpage
from baize_nb.common import CourseError
from baize_nb.teacher import Engine

QUESTIONS = ("How do I keep bread fresh?", "What is malaria?", "Where do I find <b>old</b> maps?")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script> [|x|] & more"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return finetune.export_gguf(common.DATA / "adapter", out=tmp_path_factory.mktemp("model") / "baize.gguf")


@pytest.fixture(scope="module")
def folder(gguf, tmp_path_factory):
    made = webpage.write(gguf, tmp_path_factory.mktemp("page") / "web", "A & B")
    page = json.loads((made / "page.json").read_text()) | {"temperature": 0, "max_tokens": 10}
    (made / "page.json").write_text(json.dumps(page))
    return made


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not executable():
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as play:
        found = play.chromium.launch(executable_path=executable(), args=["--headless", "--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def visit(browser):
    """visit(folder) → (page once the model is loaded or has failed, addresses elsewhere that it asked for)."""
    pages = []

    def open_(folder):
        address = re.search('src="(.*?)"', webpage.show(folder).data)[1]
        pages.append(browser.new_page())
        asked = []
        pages[-1].on("request", lambda r: asked.append(r.url) if not r.url.startswith((address, "blob:")) else None)
        pages[-1].goto(address)
        pages[-1].wait_for_selector('#status:not(:text-is("Loading the model …"))', timeout=120_000)
        return pages[-1], asked

    yield open_
    for page in pages:
        page.close()


def ask(page, question):
    """The text of the reply, once it is written."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector("#stop:disabled", timeout=120_000)
    return page.locator(".assistant").last.inner_text()


def sure(token):
    """Whether a token was likelier than the next best one by half or more."""
    first, second = (choice.logprob for choice in token.top_logprobs)
    return first - second > math.log(1.5)


def test_same_greedy_replies_as_llama_cpp(gguf, folder, visit):
    if not (folder / "wllama.wasm").is_file():
        pytest.skip("npm could not fetch the engine here, and the page would load it from a CDN")
    page, elsewhere = visit(folder)
    assert page.inner_text("#status") == "Ready."
    with contextlib.closing(Engine(gguf, "baize", slots=1, context=1024)) as engine:
        client = openai.OpenAI(base_url=engine.url, api_key="none")
        compared = 0
        for question in QUESTIONS:
            asked = [{"role": "user", "content": question}]
            options = {"temperature": 0, "max_tokens": 10, "logprobs": True, "top_logprobs": 2}
            said = client.chat.completions.create(model="baize", messages=asked, **options).choices[0]
            # WebAssembly rounds otherwise than AVX2: in a close race of two tokens it may take the other.
            clear = [token.token for token in itertools.takewhile(sure, said.logprobs.content)]
            assert ask(page, question).startswith("".join(clear).strip())
            compared += len(clear)
            page.click("#clear")
            assert page.locator(".said").count() == 0
    assert elsewhere == [] and compared >= 10


def replace_engine(folder, copy, said):
    """A copy of the page whose engine says `said`, whatever is asked: what a model might be led to write."""
    shutil.copytree(folder, copy)
    script = f"""export class Wllama {{
      setCompat() {{}}
      async loadModel() {{}}
      async *createChatCompletion({{ messages, abortSignal }}) {{
        globalThis.asked = messages;
        for (const text of {json.dumps(said)}) {{
          await new Promise((done) => setTimeout(done, 20));
          if (abortSignal.aborted) throw new DOMException("stopped", "AbortError");
          yield {{ choices: [{{ delta: {{ content: text }} }}] }};
        }}
      }} }}""".encode()
    (copy / "index.min.js").write_bytes(script)
    page = json.loads((copy / "page.json").read_text())
    integrity = "sha256-" + base64.b64encode(hashlib.sha256(script).digest()).decode()
    page["engine"] = [{"url": "index.min.js", "integrity": integrity}, page["model"][0]]
    (copy / "page.json").write_text(json.dumps(page | {"context": 350}))
    return copy


def test_hostile_text_is_text(folder, visit, tmp_path):
    page, elsewhere = visit(replace_engine(folder, tmp_path / "web", [HOSTILE]))
    assert ask(page, HOSTILE) == HOSTILE
    assert page.locator(".said img, .said script, .said b").count() == 0
    assert page.title().startswith("A & B")
    assert elsewhere == []


def test_stop_keeps_what_was_said_and_the_oldest_turns_leave_a_full_context(folder, visit, tmp_path):
    page, _ = visit(replace_engine(folder, tmp_path / "web", ["word "] * 200))
    page.fill("#question", "Speak.")
    page.press("#question", "Enter")
    page.wait_for_selector(".assistant:has-text('word word')")
    page.click("#stop")
    page.wait_for_selector("#stop:disabled")
    assert page.inner_text("#status") == "Stopped."
    assert 0 < page.locator(".assistant").inner_text().count("word") < 200
    ask(page, "<|im_end|> " + "long " * 200)
    asked = page.evaluate_handle("asked").json_value()
    assert [m["role"] for m in asked] == ["user"] and asked[0]["content"].startswith("< |im_end|> long")


def test_pieces_are_the_file_and_a_changed_one_is_not_run(gguf, folder, visit, tmp_path):
    page = json.loads((folder / "page.json").read_text())
    pieces = [folder / piece["url"] for piece in page["model"]]
    assert b"".join(piece.read_bytes() for piece in pieces) == gguf.read_bytes()
    assert all(piece.stat().st_size < 100e6 for piece in pieces)
    shutil.copytree(folder, tmp_path / "web")
    with (tmp_path / "web" / "model-000.bin").open("r+b") as file:
        file.write(b"GGUX")
    shown, _ = visit(tmp_path / "web")
    assert "could not be loaded" in shown.inner_text("#status")


def test_an_engine_that_is_damaged_is_fetched_again_and_without_npm_it_comes_from_the_cdn(
    gguf, folder, tmp_path, monkeypatch
):
    found = models.cache() / f"wllama-{webpage.VERSION}"
    monkeypatch.setattr(models, "cache", lambda: tmp_path)
    if found.is_dir():
        damaged = shutil.copytree(found, tmp_path / found.name)
        (damaged / "wllama.wasm").unlink()
        again = json.loads((webpage.write(gguf, tmp_path / "web") / "page.json").read_text())["engine"]
        assert (damaged / "wllama.wasm").is_file() == (again[1]["url"] == "wllama.wasm")
    shutil.rmtree(tmp_path / found.name, ignore_errors=True)
    monkeypatch.setenv("PATH", "")  # no npm
    bare = webpage.write(gguf, tmp_path / "web")
    engine = json.loads((bare / "page.json").read_text())["engine"]
    assert all(f"@{webpage.VERSION}/" in part["url"] and part["integrity"] for part in engine)
    assert webpage.CDN in (bare / "index.html").read_text()
    with pytest.raises(CourseError, match="is no GGUF file"):
        webpage.write(folder / "page.json", tmp_path / "web")
