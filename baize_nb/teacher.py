"""The teacher: a chat model behind an OpenAI-compatible endpoint, of somebody else's or on this machine.

A key or an address in the environment changes which teacher you get, never a cell.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from . import models
from .common import CourseError
from .faults import explained, kind_of, proxy_unusable, refused, told
from .transcript import CHATML, ChatFormat

OPENAI_URL = "https://api.openai.com/v1"
# OpenAI's smallest model on 28 November 2026 (gpt-4o-mini ends on 14 January 2027); it thinks before it answers.
OPENAI_MODEL = "gpt-6-luna"

THOUGHTS = 1024  # tokens of room for the thoughts of a model that thinks before it answers
_THINKERS = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*chat)")  # at OpenAI
_NO_CHAT = re.compile(r"embed|whisper|tts|dall-e|moderation|rerank|image|audio|ocr|guard|bge-|clip", re.IGNORECASE)
_CALLED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}  # by some endpoints

# Small models fall into loops; a light frequency penalty keeps them out.
EMBEDDED_SAMPLING = {"temperature": 0.7, "top_p": 0.9, "frequency_penalty": 0.4}
SAMPLING = {"temperature": 1.0, "top_p": 0.95}  # the paper's, for its chat model (arXiv 2304.01196)


@dataclass
class Teacher(AbstractContextManager):
    """An endpoint and a model on it; as a context manager it is closed at the end."""

    base_url: str  # up to and with /v1
    model: str
    api_key: str | None = field(default=None, repr=False)  # never printed, never written
    open_header: bool | None = None  # whether it continues a raw prompt in `chat_format`; None: not yet asked
    chat_format: ChatFormat = field(default=CHATML, repr=False)
    sampling: dict = field(default_factory=lambda: dict(SAMPLING))  # sent with each request
    engine: object = field(default=None, repr=False)
    omit: set = field(default_factory=set, repr=False)  # parameters that are never sent, by hand or learned
    thinks: bool | None = None  # before it answers, so that room for it is asked for; learned too
    renamed: dict = field(default_factory=dict, repr=False)  # {parameter: what this endpoint calls it}, learned

    def __post_init__(self):
        self.omit = set(self.omit)
        if self.thinks is None and self.base_url.startswith(OPENAI_URL) and _THINKERS.match(self.model):
            self.thinks, self.renamed = True, {"max_tokens": "max_completion_tokens"}

    def client(self, blocking=False, **options):
        """Return an `openai.AsyncOpenAI` client for this endpoint, or a blocking `openai.OpenAI` one."""
        import openai  # here: the set-up cell of a notebook should not wait for it

        kind, http = openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient
        if blocking:
            kind, http = openai.OpenAI, openai.DefaultHttpxClient
        try:
            if self.engine is not None:  # on this machine: a proxy that somebody has set has no business in between
                options["http_client"] = http(trust_env=False)
            return kind(base_url=self.base_url, api_key=self.api_key or "none", **options)
        except (ValueError, ImportError) as error:
            raise proxy_unusable(error) from None

    def adapted(self, kind: str, body: dict) -> dict:
        """Return the `body` of a request, "chat" or "text", as this endpoint takes it."""
        body = dict(body)
        if "max_completion_tokens" in body:  # set by hand
            body.pop("max_tokens", None)
        elif self.thinks and kind == "chat":
            # The limit holds for thoughts and answer together; a stop mark might stand among the thoughts.
            body = {"reasoning_effort": "low"} | body | {"max_tokens": body["max_tokens"] + THOUGHTS}
            body.pop("stop", None)
        if "messages" in body:
            body["messages"] = [m for m in body["messages"] if m["role"] != "system" or m["content"].strip()]
        return self._without(body)

    def learn(self, error: Exception, body: dict) -> bool:
        """Remember which parameters of `body`, as it was sent, a fault refuses. Whether to send it again, adapted."""
        for name in refused(error, body):
            if name in self.omit or name in self.renamed:
                continue
            if other := _CALLED.get(name):
                self.renamed[name] = other
                self.thinks = self.thinks or name == "max_tokens"  # only models that think refuse that
                instead = f"{other} is sent instead"
            else:
                self.omit.add(name)
                instead = "it stands before the first question" if name == "system" else "it is left out"
            print(f"{self.base_url} takes no {'system message' if name == 'system' else name}: from now on {instead}.")
        return self._without(body) != body

    def _without(self, body):
        body = {self.renamed.get(name, name): value for name, value in body.items() if name not in self.omit}
        if "extra_body" in body:
            body["extra_body"] = {name: value for name, value in body["extra_body"].items() if name not in self.omit}
        if "system" in self.omit and body.get("messages", [{}])[0].get("role") == "system":
            system, *rest = body["messages"]
            first = rest[0] if rest else {"role": "user", "content": ""}
            first = {"role": "user", "content": f"{system['content']}\n\n{first['content']}".strip()}
            body["messages"] = [first, *rest[1:]]
        return body

    def models(self) -> list[str]:
        """Ask the endpoint for the names of its models; what is no list of them gives []. Raises openai.APIError."""
        with self.client(blocking=True, max_retries=1, timeout=30) as client:
            try:
                return [model.id for model in client.models.list() if isinstance(model.id, str)]
            except (ValueError, TypeError, AttributeError):
                return []

    def check(self) -> "Teacher":
        """See that the endpoint answers; where no model is named, take the first in its list that chats.

        A list that is missing or leaves the named model out is no fault: aliases and routers are often not listed.
        """
        import openai

        names, why = [], "lists no model"
        try:
            names = self.models()
        except openai.APIError as error:
            status, words, _ = told(error)
            limited = status == 403 or "scope" in words or "permission" in words  # a key that may only chat
            if not status or kind_of(error) in ("money", "region", "proxy") or (status == 401 and not limited):
                raise explained(error, self) from None
            why = f"does not list its models (HTTP {status}: {words})"
        if self.model and names and self.model not in names:
            print(f"{self.base_url} does not list {self.model!r}. If it has none, the first request says so.")
        self.model = self.model or next((name for name in names if not _NO_CHAT.search(name)), "")
        if not self.model:
            raise CourseError(f"{self.base_url} {why}. Name one in BAIZE_TEACHER_MODEL.")
        return self

    def close(self):
        """Release the engine on this machine, if this teacher has one. May be called twice."""
        if self.engine is not None:
            self.engine.close()

    def __exit__(self, *_):
        self.close()


def openai(model: str = OPENAI_MODEL) -> Teacher:
    """Return the teacher at api.openai.com with the key in OPENAI_API_KEY. Raises CourseError without one."""
    key = _key()
    if not key:
        raise CourseError("OPENAI_API_KEY is not set. Set it before starting Jupyter, or use teacher.embedded().")
    return Teacher(OPENAI_URL, model, key)


def _key():
    """The key in the environment, or None. Raises CourseError, without naming it, for one that no header can hold."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        fault = "OPENAI_API_KEY holds a character that no key has, such as a typographic quote or a line break."
        raise CourseError(f"{fault} Copy the key once more from the provider's page.")
    return key or None


def embedded(slots: int = 16) -> Teacher:
    """Return the embedded model, served by llama.cpp in a child process on a free loopback port.

    slots : dialogues it works on at the same time; 16 is 1.4 to 2.7 times faster than one by one on two cores.
    """
    engine = Engine(models.gguf(), models.NAME, slots=slots)
    return Teacher(engine.url, models.NAME, open_header=True, sampling=dict(EMBEDDED_SAMPLING), engine=engine)


def _setting(name):
    return os.environ.get(name, "").strip()


def choice() -> tuple[str, str]:
    """Return (kind, sentence): which teacher the environment asks for, without starting it."""
    model, local = _setting("BAIZE_TEACHER_MODEL"), _setting("BAIZE_TEACHER")
    if url := _setting("BAIZE_TEACHER_URL"):
        return "url", f"{model or 'the first model'} at {url} (BAIZE_TEACHER_URL)"
    if local not in ("", "embedded"):
        name = local.replace("\\", "/").split("/")[-1]
        return "file", f"{name} (BAIZE_TEACHER): runs on this machine, no key, no cost"
    if _setting("OPENAI_API_KEY") and not local:
        return "openai", f"{model or OPENAI_MODEL} at api.openai.com (OPENAI_API_KEY is set: requests cost money)"
    return "embedded", f"{models.NAME}, embedded: runs on this machine, no key, no cost"


def from_env(slots: int = 16) -> Teacher:
    """Return the teacher that the environment asks for, and print which.

    In this order: BAIZE_TEACHER_URL, BAIZE_TEACHER (a GGUF file, or "embedded"), OPENAI_API_KEY, the embedded one.
    BAIZE_TEACHER_MODEL names the model; at an address it is the first in the list by default.
    Raises CourseError: endpoint down, wrong key, no model named and none listed.
    """
    kind, sentence = choice()
    print(f"Teacher: {sentence}")
    model = _setting("BAIZE_TEACHER_MODEL")
    if kind == "url":
        return Teacher(_setting("BAIZE_TEACHER_URL").rstrip("/"), model, _key()).check()
    if kind == "file":
        path = _gguf(_setting("BAIZE_TEACHER"))
        engine = Engine(path, path.stem, slots=slots)
        return Teacher(engine.url, path.stem, engine=engine)
    if kind == "openai":
        return openai(model or OPENAI_MODEL).check()
    return embedded(slots)


def _gguf(source):
    if source.startswith("hub:") and source.count("/") >= 2:
        from huggingface_hub import hf_hub_download

        owner, name, file = source.removeprefix("hub:").split("/", 2)
        try:
            return Path(hf_hub_download(f"{owner}/{name}", file))
        except Exception as error:  # the hub has errors of its own
            fault = str(error).strip().split("\n")[0]
            raise CourseError(f"Could not fetch {source}: {fault} Check its name and the network.") from error
    path = Path(source).expanduser()
    if path.suffix != ".gguf" or not path.is_file():
        server = "start `transformers serve` or vLLM, and set BAIZE_TEACHER_URL."
        remedy = f"Name one, or hub:owner/name/file.gguf. A model in transformers form needs a server: {server}"
        raise CourseError(f"BAIZE_TEACHER is {source!r}, and that is no GGUF file. {remedy}")
    return path


# OpenMP's threads spin while they wait for each other. Beside any other busy program (a browser, a second notebook)
# inference becomes many times slower so; a short spin costs nothing when alone. Read by GNU's OpenMP only.
WAITING = {"GOMP_SPINCOUNT": "1000"}
START_SECONDS = 120  # a cold disk and a busy machine; a calm one needs one or two


class Engine:
    """A running llama.cpp server. `url` is its OpenAI-compatible base address; `close()` ends it, once or twice."""

    def __init__(self, gguf, name, slots=8, context=2048):
        """Wait until it answers. context : tokens per slot, prompt and reply together."""
        settings = {"gguf": str(gguf), "name": name, "slots": slots, "context": slots * context}
        log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the child)
        command = [sys.executable, "-c", f"import {__name__} as t; t._serve()", json.dumps(settings)]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        process = subprocess.Popen(command, text=True, env=WAITING | os.environ, **streams)

        def end():
            process.kill()
            process.wait()
            for file in (process.stdin, process.stdout, log):
                file.close()

        # Also where nobody closes it: at the end of Python, or when a cell that starts a teacher is run once more.
        self.close = weakref.finalize(self, end)
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        said = process.stdout.read()  # up to its end: the child closes it when it is ready
        timer.cancel()
        address = re.search(r"^http://\S+", said, re.M)
        if not address:
            log.seek(0)
            tail = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            self.close()
            remedy = "Close other programs if memory is short, and run the cell again."
            raise CourseError(f"The embedded engine did not start: {tail[-1]} {remedy}")
        self.url = address[0] + "/v1"


def _serve():
    """In the child: serve until standard input closes. Ends by `os._exit`, since a busy server can't be unwound."""
    import signal

    import xllamacpp

    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted cell must not take the engine with it
    params = xllamacpp.CommonParams()
    params.model.path = settings["gguf"]
    name = settings["name"]
    params.model_alias = [name] if isinstance(params.model_alias, list | set | tuple) else name
    params.hostnames = ["127.0.0.1"] if isinstance(params.hostnames, list) else "127.0.0.1"
    params.port = 0
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context"]
    # As many threads as cores; fewer where OMP_NUM_THREADS says so, as for PyTorch. "2,1" is for nested loops.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    params.cpuparams.n_threads = int(wanted) if wanted.isdigit() and int(wanted) else os.cpu_count() or 1
    params.verbosity = -1
    params.ui = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    os.dup2(2, 1)  # what llama.cpp says from here on goes to the log; the parent sees the end of this stream
    sys.stdin.read()
    os._exit(0)
