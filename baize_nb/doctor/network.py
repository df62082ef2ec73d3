"""Ports, proxies and endpoints: can the teacher be reached?

Knows: that the embedded teacher is a web server on 127.0.0.1, and that the openai client obeys the proxy variables.
"""

import contextlib
import http.server
import os
import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies

from .. import teacher as teachers
from ..common import CourseError
from .findings import Finding

SECONDS = 5  # a check must not hold up a lesson
LOCAL = "127.0.0.1"


def loopback(address=LOCAL):
    """Whether two programs on this machine can talk at 127.0.0.1, as a notebook and the embedded teacher do."""
    try:
        with (
            socket.create_server((address, 0)) as server,
            socket.create_connection(server.getsockname(), timeout=SECONDS),
        ):
            return Finding("local port", f"programs on this machine can talk at {address}")
    except OSError as error:
        remedy = (
            f"A firewall or security program keeps programs from talking at {address}: allow Python there, or ask who "
            "may. Until then, another machine's endpoint can teach: BAIZE_TEACHER_URL."
        )
        return Finding("local port", f"{address} is blocked ({error.strerror or error})", remedy)


def proxy():
    """Whether a proxy that is set answers, and leaves this machine's own addresses alone."""
    try:
        addresses = {_address(url) for scheme, url in getproxies().items() if scheme in ("http", "https", "all")}
    except ValueError:
        remedy = (
            "HTTP_PROXY and HTTPS_PROXY look like http://host:port; in a password write @ as %40, : as %3A, # as %23."
        )
        return Finding("proxy", "an address that can't be read", remedy)
    if not addresses:
        return Finding("proxy", "none set")
    named, remedies = ", ".join(sorted(addresses)), []
    if dead := sorted(a for a in addresses if not _listens(a)):
        remedies.append(f"Nothing answers at {', '.join(dead)}: mend HTTP_PROXY and HTTPS_PROXY, or unset them.")
    if not _reaches_itself():
        remedies.append(
            "It also takes what is meant for this machine itself, so the embedded teacher can't be reached: "
            f"add {LOCAL},localhost to NO_PROXY (in a cell: `%env NO_PROXY={LOCAL},localhost`) and run this again."
        )
    return Finding("proxy", named, " ".join(remedies))


def _address(url):
    """host:port of a proxy's URL, without the password that it may carry."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _listens(address):
    """Whether something takes a connection at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def _reaches_itself():
    """Whether the openai client's request to a small server at 127.0.0.1 gets there, or a proxy takes it."""
    reached = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            reached.set()
            self.send_error(404)

        def log_message(self, *_):
            """Say nothing: the notebook's output is the reader's."""

    with http.server.ThreadingHTTPServer((LOCAL, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            _ask(f"http://{LOCAL}:{server.server_port}/v1")
        finally:
            server.shutdown()
    return reached.is_set()


def _ask(url):
    """Send one request there. Any answer is an error to the client; what counts is who gives it."""
    import openai

    with contextlib.suppress(openai.OpenAIError, ValueError), _client(url, "none") as client:
        client.models.list()


def _client(url, key):
    """An openai client that gives up soon."""
    import openai

    return openai.OpenAI(base_url=url, api_key=key or "none", max_retries=0, timeout=SECONDS)


def endpoint(ask=False):
    """Whether the teacher's endpoint takes the key and has the model. None for the embedded teacher: it has neither.

    ask : send one request for one token too, which shows whether there is credit (a paid endpoint bills it).
    """
    kind, sentence = teachers.choice()
    if kind == "embedded":
        return None
    import openai

    asked = _chosen(kind)
    try:
        with _client(asked.base_url, asked.api_key) as client, teachers.explained(asked):
            names = [model.id for model in client.models.list()]
            model = asked.model or next(iter(names), "")
            if names and model not in names:
                raise CourseError(f"{asked.base_url} has no model {model!r}. Name another in BAIZE_TEACHER_MODEL.")
            if ask:
                message = {"role": "user", "content": "Hello"}
                client.chat.completions.create(model=model, messages=[message], max_tokens=1)
    except openai.OpenAIError as error:
        text = str(error).splitlines()[0]
        return Finding("teacher", text, "Is BAIZE_TEACHER_URL right, up to and with /v1? Else try again later.")
    note = (
        "" if ask else "Whether the key has credit shows only at a request: doctor.report(ask=True) sends a tiny one."
    )
    return Finding("teacher", f"answers: {sentence}", note=note if asked.api_key else "")


def _chosen(kind):
    """The teacher that the environment names, not yet asked anything."""
    model = os.environ.get("BAIZE_TEACHER_MODEL", "").strip()
    if kind == "openai":
        return teachers.openai(model or teachers.OPENAI_MODEL)
    url = os.environ["BAIZE_TEACHER_URL"].strip().rstrip("/")
    return teachers.Teacher(url, model, teachers._key())
