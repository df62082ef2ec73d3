"""The teacher: a chat model behind an OpenAI-compatible endpoint, of somebody else's or on this machine.

A key or an address in the environment changes which teacher you get, never a cell.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field

from . import models
from .common import CourseError
from .transcript import CHATML, ChatFormat

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o-mini"

# Small models fall into loops at low temperature; a light frequency penalty keeps them out.
EMBEDDED_SAMPLING = {"temperature": 0.7, "top_p": 0.9, "frequency_penalty": 0.4}
# The paper samples its chat model at temperature 1, top-p 0.95 (arXiv 2304.01196).
SAMPLING = {"temperature": 1.0, "top_p": 0.95}


@dataclass
class Teacher:
    """An endpoint and a model on it.

    base_url    : address up to and with /v1.
    model       : the model's name there.
    api_key     : None for endpoints that want none. Never printed, never written.
    open_header : whether it continues a raw prompt in `chat_format` at /v1/completions; None: not yet asked.
    chat_format : the marks in which its model reads a chat.
    sampling    : parameters sent with each request.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    open_header: bool | None = None
    chat_format: ChatFormat = field(default=CHATML, repr=False)
    sampling: dict = field(default_factory=lambda: dict(SAMPLING))
    engine: object = field(default=None, repr=False)

    def client(self, **options):
        """Return an `openai.AsyncOpenAI` client for this endpoint. Retries and time-outs are the client's own."""
        import openai  # here: see `openai` below, and the set-up cell of a notebook should not wait for it

        if self.engine is not None:  # on this machine: a proxy that somebody has set has no business in between
            options["http_client"] = openai.DefaultAsyncHttpxClient(trust_env=False)
        return openai.AsyncOpenAI(base_url=self.base_url, api_key=self.api_key or "none", **options)

    def blocking_client(self, **options):
        """Return the same as an `openai.OpenAI` client."""
        import openai

        if self.engine is not None:
            options["http_client"] = openai.DefaultHttpxClient(trust_env=False)
        return openai.OpenAI(base_url=self.base_url, api_key=self.api_key or "none", **options)

    def models(self) -> list[str]:
        """Ask the endpoint for the names of its models. Raises CourseError: endpoint down, or wrong key."""
        with self.blocking_client(max_retries=1, timeout=30) as client, explained(self):
            return [model.id for model in client.models.list()]

    def check(self) -> "Teacher":
        """Take the first model of the endpoint where none is named. Raises CourseError where it has no such model."""
        names = self.models()
        if not self.model:
            if not names:
                raise CourseError(f"{self.base_url} lists no model. Name one in BAIZE_TEACHER_MODEL.")
            self.model = names[0]
        elif names and self.model not in names:
            shown = ", ".join(sorted(names)[:5]) + (" …" if len(names) > 5 else "")
            raise CourseError(
                f"{self.base_url} has no model {self.model!r}. Set BAIZE_TEACHER_MODEL to one it has: {shown}"
            )
        return self

    def close(self):
        """Release the embedded engine, if this teacher has one. May be called twice."""
        if self.engine is not None:
            self.engine.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextmanager
def explained(teacher):
    """Make a CourseError with the remedy of the openai client's errors that no retry mends; others pass."""
    import openai

    where = teacher.base_url
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise CourseError(
            f"{where} refused the key (HTTP {error.status_code}). Check OPENAI_API_KEY: no quotes, no spaces, "
            "not revoked, and allowed to use this model. Without a key, unset it to use the embedded teacher."
        ) from None
    except openai.RateLimitError as error:
        if error.code != "insufficient_quota":
            raise
        raise CourseError(
            f"{where} says that this key has no quota left. Add credit at the provider, or ask your instructor for "
            "more; or unset OPENAI_API_KEY and BAIZE_TEACHER_URL to use the embedded teacher. "
            "What was made so far is kept."
        ) from None
    except openai.APIConnectionError:
        raise CourseError(
            f"Nothing answers at {where}. Is the endpoint running, the address right, the proxy set? "
            "Unset BAIZE_TEACHER_URL and OPENAI_API_KEY to use the embedded teacher."
        ) from None


def openai(model=OPENAI_MODEL):
    """api.openai.com with the key in OPENAI_API_KEY. Raises CourseError without one."""
    key = _key()
    if not key:
        raise CourseError("OPENAI_API_KEY is not set. Set it before starting Jupyter, or use teacher.embedded().")
    return Teacher(OPENAI_URL, model, key)


def _key():
    """The key in the environment, or None. Raises CourseError, without naming it, for one that no header can hold."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise CourseError(
            "OPENAI_API_KEY holds a character that no key has, such as a typographic quote or a line break. "
            "Copy the key once more from the provider's page."
        )
    return key or None


def embedded(slots=16):
    """The embedded model, served by llama.cpp in a child process on a free loopback port.

    slots : dialogues it works on at the same time; 16 is 1.4 to 2.7 times faster than one by one on two cores,
            by the processor.
    Ready in seconds; released by `close()`, at the end of a `with`, and whenever this process ends.
    """
    engine = Engine(models.gguf(), models.NAME, slots=slots)
    return Teacher(engine.url, models.NAME, open_header=True, sampling=dict(EMBEDDED_SAMPLING), engine=engine)


def choice():
    """(kind, sentence): which teacher the environment asks for, without starting it."""
    model = os.environ.get("BAIZE_TEACHER_MODEL", "").strip()
    if url := os.environ.get("BAIZE_TEACHER_URL", "").strip():
        return "url", f"{model or 'the first model'} at {url} (BAIZE_TEACHER_URL)"
    if os.environ.get("OPENAI_API_KEY", "").strip():
        return "openai", f"{model or OPENAI_MODEL} at api.openai.com (OPENAI_API_KEY is set: requests cost money)"
    return "embedded", f"{models.NAME}, embedded: runs on this machine, no key, no cost"


def from_env(slots: int = 16) -> Teacher:
    """Return the teacher that the environment asks for, and print which.

    In this order: BAIZE_TEACHER_URL, OPENAI_API_KEY, the embedded one. BAIZE_TEACHER_MODEL names the model; at an
    address it is the first in the list by default.
    Use it as a context manager, or call `close()`. Raises CourseError: endpoint down, wrong key, unknown model.
    """
    kind, sentence = choice()
    print(f"Teacher: {sentence}")
    model = os.environ.get("BAIZE_TEACHER_MODEL", "").strip()
    if kind == "url":
        return Teacher(os.environ["BAIZE_TEACHER_URL"].strip().rstrip("/"), model, _key()).check()
    if kind == "openai":
        return openai(model or OPENAI_MODEL).check()
    return embedded(slots)


# ---- the embedded engine: llama.cpp as a child process ----

# OpenMP's threads spin while they wait for each other, by default for very long. Alone on the machine that does no
# harm, but beside any other busy program (a browser, a second notebook) inference becomes many times slower. A short
# spin costs nothing when alone and keeps most of the speed in company. Read by GNU's OpenMP, ignored by others.
WAITING = {"GOMP_SPINCOUNT": "1000"}
START_SECONDS = 120  # a cold disk and a busy machine; a calm one needs one or two


class Engine:
    """A running llama.cpp server. `url` is its OpenAI-compatible base address; `close()` ends it at once."""

    def __init__(self, gguf, name, slots=8, context=2048):
        """Serve the file `gguf` under the model name `name`.

        slots   : requests answered at the same time.
        context : tokens per slot, prompt and reply together.
        Raises CourseError where it does not start.
        """
        settings = {"gguf": str(gguf), "name": name, "slots": slots, "context": slots * context}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the child)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import {__name__} as t; t._serve()", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=WAITING | os.environ,
        )
        # Also where nobody closes it: at the end of Python, or when a cell that starts a teacher is run once more.
        self._finish = weakref.finalize(self, _end, self._process, self._log)
        self.url = self._address() + "/v1"

    def _address(self):
        """Wait for the one line in which the child says where it listens."""
        lines = queue.Queue()
        threading.Thread(target=_listen, args=(self._process.stdout, lines), daemon=True).start()
        try:
            address = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            address = None
        if address is None:
            self._process.kill()
            self._log.seek(0)
            tail = self._log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            self.close()
            raise CourseError(
                f"The embedded engine did not start: {tail[-1]} "
                "Close other programs if memory is short, and run the cell again."
            )
        return address

    def close(self):
        """End the engine and free its port and memory. May be called twice."""
        self._finish()


def _listen(stdout, lines):
    """Read the child's output to its end; None stands for a child that ended without an address."""
    for line in stdout:
        if line.startswith("http://"):
            lines.put(line.strip())
    lines.put(None)


def _end(process, log):
    """End the child and free its port and memory."""
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdin.close()
    log.close()


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
    sys.stdin.read()
    os._exit(0)
