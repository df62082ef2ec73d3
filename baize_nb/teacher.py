"""Teacher: the chat model that talks to itself, as an OpenAI-compatible endpoint.

Knows: addresses, keys, model names, sampling, and the embedded engine. Does not know: self-chat.
Built in notebook 02. A key or an address changes which teacher you get, never a cell.
"""

import os
from dataclasses import dataclass, field

from . import models
from .chatformat import CHATML, ChatFormat
from .common import CourseError

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
        """An `openai.AsyncOpenAI` client for this endpoint. Retries and time-outs are the client's own."""
        import openai

        if self.engine is not None:  # on this machine: a proxy that somebody has set has no business in between
            options["http_client"] = openai.DefaultAsyncHttpxClient(trust_env=False)
        return openai.AsyncOpenAI(base_url=self.base_url, api_key=self.api_key or "none", **options)

    def check(self):
        """Ask the endpoint for its models. Raises CourseError: endpoint down, wrong key, or unknown model."""
        import openai

        client = openai.OpenAI(base_url=self.base_url, api_key=self.api_key or "none", max_retries=1, timeout=30)
        with client, explained(self):
            names = [model.id for model in client.models.list()]
        if names and self.model not in names:
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


class explained:
    """Context manager: the openai client's errors that no retry mends become a CourseError with the remedy."""

    def __init__(self, teacher):
        self.teacher = teacher

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        import openai

        where = self.teacher.base_url
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            raise CourseError(
                f"{where} refused the key (HTTP {error.status_code}). Check OPENAI_API_KEY: no quotes, no spaces, "
                "not revoked, and allowed to use this model. Without a key, unset it to use the embedded teacher."
            ) from None
        if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
            raise CourseError(
                f"{where} says that this key has no quota left. Add credit at the provider, or ask your instructor for "
                "more; or unset OPENAI_API_KEY and BAIZE_TEACHER_URL to use the embedded teacher. "
                "What was made so far is kept."
            ) from None
        if isinstance(error, openai.APIConnectionError):
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
    from .engine import Engine

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


def from_env(slots=16):
    """The teacher that the environment asks for, and a line that says which.

    In this order: BAIZE_TEACHER_URL, OPENAI_API_KEY, the embedded one. BAIZE_TEACHER_MODEL names the model.
    Use it as a context manager, or call `close()`. Raises CourseError: endpoint down, wrong key, unknown model.
    """
    kind, sentence = choice()
    print(f"Teacher: {sentence}")
    model = os.environ.get("BAIZE_TEACHER_MODEL", "").strip()
    if kind == "url":
        return _at_url(os.environ["BAIZE_TEACHER_URL"].strip(), model)
    if kind == "openai":
        return openai(model or OPENAI_MODEL).check()
    return embedded(slots)


def _at_url(url, model):
    """A teacher at an address of one's own; with no model named, the first that it lists."""
    teacher = Teacher(url.rstrip("/"), model, _key())
    if model:
        return teacher.check()
    import openai

    with (
        openai.OpenAI(
            base_url=teacher.base_url, api_key=teacher.api_key or "none", max_retries=1, timeout=30
        ) as client,
        explained(teacher),
    ):
        teacher.model = next((m.id for m in client.models.list()), "")
    if not teacher.model:
        raise CourseError(f"{teacher.base_url} lists no model. Name one in BAIZE_TEACHER_MODEL.")
    return teacher
