"""`make teacher`: one teacher for a whole room, an OpenAI-compatible endpoint with a key and a budget for each student.

    python tools/classroom.py --students 30 --tokens 200000 --host 0.0.0.0
    python tools/classroom.py --usage

Students never see the instructor's key. Nothing is logged: neither keys nor texts.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from types import SimpleNamespace

import openai
import tornado.httpserver
import tornado.netutil
import tornado.web
from accounts import Accounts, Closed, FairQueue, OverBudget, read_accounts

from baize_nb import common, teacher
from baize_nb.answers import Tokens, read_usage
from baize_nb.client import worst_case
from baize_nb.common import CourseError
from baize_nb.faults import Faulty, kind_of, told

LARGEST = 2**20  # bytes of a request; what a course's model reads is far less
DEFAULT_TOKENS, MOST_TOKENS = 512, 2048  # of one answer: where the request names no number, and at most
PATHS = {"messages": "/chat/completions", "prompt": "/completions"}
# Fields that are not listed are refused: an endpoint may have some that reach further than one student's request.
SAMPLING = {"temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "stop", "seed", "n"}
SAMPLING |= {"repeat_penalty", "reasoning_effort"}  # llama.cpp's name; for models that think
ANSWER = {"max_tokens", "max_completion_tokens", "stream", "stream_options", "logprobs", "top_logprobs"}
FIELDS = SAMPLING | ANSWER | {"model", "response_format", "user"}


class Refusal(Exception):
    """A request that is not answered: HTTP status, code, and a sentence for the student."""

    def __init__(self, status: int, code: str, sentence: str):
        super().__init__(sentence)
        self.status, self.code = status, code

    def body(self) -> dict:
        """Make the JSON in which OpenAI's API says so."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = self.code if self.status == 429 else kind
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.code}}


def bad(sentence: str) -> Refusal:
    """Make the Refusal of a request that makes no sense."""
    return Refusal(400, "invalid_request", sentence)


def read_body(raw: bytes) -> dict:
    """Read the JSON object in a request's bytes. Raises Refusal."""
    with contextlib.suppress(ValueError):
        if isinstance(body := json.loads(raw), dict):
            return body
    raise bad("The request's body is no JSON object.")


def read_completion(raw: bytes, kind: str, model: str) -> tuple[dict, Tokens]:
    """Read a request for a completion: (body to pass on, worst case in Tokens). Raises Refusal.

    kind  : "messages" for a chat, "prompt" for a text to continue.
    model : the only one that there is.
    """
    body = read_body(raw)
    if unknown := sorted(set(body) - {kind, *FIELDS}):
        raise bad(f"Unknown field: this endpoint does not support {unknown[0]!r}.")
    if body.get("model", model) != model:
        raise Refusal(404, "model_not_found", f"There is no model {body['model']!r} here; there is {model!r}.")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise bad("'stream_options' should be a JSON object.")
    most = _number(body, "max_completion_tokens", _number(body, "max_tokens", DEFAULT_TOKENS))
    if most > MOST_TOKENS:
        raise bad(f"An answer may have at most {MOST_TOKENS} tokens here; the request asks for {most}.")
    # Texts only, since what else a message may hold can't be counted beforehand.
    text = body.get(kind)
    if kind == "prompt" and not isinstance(text, str):
        raise bad("'prompt' should be one text.")
    if kind == "messages" and not (isinstance(text, list) and text and all(map(_is_message, text))):
        raise bad("""'messages' should be a list of {"role": …, "content": …}, both texts.""")
    limit = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    body |= {"model": model, limit: most}
    return body, worst_case({kind: text, "max_tokens": most * _number(body, "n", 1)})


def _number(body, name, default):
    """A whole number above zero."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise bad(f"{name!r} should be a whole number above 0, not {value!r}.")
    return value


def _is_message(message):
    texts = isinstance(message, dict) and set(message) <= {"role", "content", "name"}
    return texts and {"role", "content"} <= set(message) and all(isinstance(v, str) for v in message.values())


class Upstream:
    """The teacher behind the room's endpoint, asked through an `openai.AsyncOpenAI` client for it."""

    def __init__(self, model: teacher.Teacher, client: openai.AsyncOpenAI):
        self.model, self._client = model.model, client

    async def reply(self, kind: str, body: dict) -> dict:
        """Get the whole answer. Raises Refusal."""
        with faults():
            reply = await self._client.post(PATHS[kind], body=body, cast_to=object)
            if isinstance(reply, dict) and isinstance(reply.get("choices"), list):
                return reply
            # A web page, or an error under HTTP 200, as routers send it.
            error = reply.get("error") if isinstance(reply, dict) else None
            raise Faulty("no completion", Tokens(), body=error)

    async def pieces(self, kind: str, body: dict):
        """Yield the answer piece by piece, as dictionaries; the last one holds the usage. Raises Refusal."""
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        with faults():
            stream = await self._client.post(
                PATHS[kind], body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
            came = False
            async with stream:
                async for piece in stream:
                    if isinstance(piece, dict):
                        came = True
                        yield piece
            if not came:
                raise Faulty("no stream", Tokens())

    async def template(self, messages) -> dict:
        """Get what llama.cpp's server makes of a chat before its model reads it. Raises Refusal where it is none."""
        beside = str(self._client.base_url).rstrip("/").removesuffix("/v1")
        with faults():
            try:
                reply = await self._client.post(f"{beside}/apply-template", body={"messages": messages}, cast_to=object)
            except openai.APIStatusError:
                reply = None
        if not isinstance(reply, dict):
            raise Refusal(404, "not_found", "The room's teacher does not show its chat template.")
        return reply


@contextlib.contextmanager
def faults():
    """Turn faults of the teacher into Refusals.

    What lies in the student's text is told in the teacher's own words; nothing shows the instructor's address or key.
    """
    try:
        yield
    except (openai.APIError, Faulty) as error:
        raise _refusal(error) from None
    except Exception as error:
        # A body that is no JSON, or a stream that broke off: that comes as an error of the HTTP library.
        if not isinstance(error, ValueError) and not type(error).__module__.startswith("httpx"):
            raise
        raise Refusal(503, "teacher_unavailable", "The room's teacher does not answer. Try again.") from None


def _refusal(error):
    (status, words, _), kind = told(error), kind_of(error)
    if kind == "filter":
        return Refusal(status, "content_filter", words)
    if kind == "context":
        return Refusal(400, "context_length_exceeded", words)
    if kind and kind != "connection":
        text = "The room's teacher is set up wrongly, or its quota is used up. Tell your instructor."
        return Refusal(503, "teacher_unavailable", text)
    if status == 429:
        return Refusal(429, "rate_limit_exceeded", "The room's teacher is asked too often. Try again in a moment.")
    if status in (400, 422) and not words.startswith("a web page"):
        return Refusal(status, getattr(error, "code", None) or "invalid_request", words)
    what = "has a fault" if status else "does not answer"
    return Refusal(503, "teacher_unavailable", f"The room's teacher {what}. Try again.")


class Room:
    """What all requests share: accounts, the queue, and the teacher."""

    def __init__(self, accounts: Accounts, upstream: Upstream, places: int):
        self.accounts, self.upstream = accounts, upstream
        self.queue = FairQueue(places, accounts.budget)

    def listen(self, port: int, host: str) -> int:
        """Start listening; return the port. Raises OSError where it is taken."""
        handlers = [
            (r"/v1/models", Models),
            (r"/v1/chat/completions", Completion, {"kind": "messages"}),
            (r"/v1/completions", Completion, {"kind": "prompt"}),
            (r"/apply-template", Template),
        ]
        app = tornado.web.Application(
            handlers, default_handler_class=Answer, room=self, log_function=lambda handler: None
        )
        sockets = tornado.netutil.bind_sockets(port, host)
        self._server = tornado.httpserver.HTTPServer(app, max_buffer_size=LARGEST)
        self._server.add_sockets(sockets)
        return sockets[0].getsockname()[1]

    async def stop(self, seconds: int = 30) -> None:
        """Take no more requests, send away who waits, and give those being answered some seconds to end."""
        self._server.stop()
        self.queue.close()
        for _ in range(10 * seconds):
            if not self.queue.running.total():
                break
            await asyncio.sleep(0.1)
        await self._server.close_all_connections()


class Answer(tornado.web.RequestHandler):
    """What all addresses have in common: a key is asked for, and refusals have OpenAI's form."""

    def prepare(self):
        self.room = self.settings["room"]
        key = self.request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        self.account = self.room.accounts.of(key)
        if self.account is None:
            raise Refusal(401, "invalid_api_key", "This room does not know that key. Use the one you were given.")
        if type(self) is Answer:
            raise Refusal(404, "not_found", f"There is nothing at {self.request.path} here.")

    def write_error(self, status_code, exc_info=None, **_):
        error = exc_info[1] if exc_info else None
        if not isinstance(error, Refusal):
            error = Refusal(status_code, "error", self._reason)
        self.set_status(error.status)
        if error.code == "insufficient_quota":
            self.set_header("x-should-retry", "false")  # openai's client would ask again, in vain
        self.finish(error.body())

    def log_exception(self, kind, error, trace):
        """Refusals are told to the student; anything else is a fault of ours, for the instructor to see."""
        if not isinstance(error, Refusal | tornado.web.HTTPError):
            super().log_exception(kind, error, trace)


class Models(Answer):
    """GET /v1/models: the one that there is."""

    def get(self):
        model = {"id": self.room.upstream.model, "object": "model", "created": 0, "owned_by": "classroom"}
        self.write({"object": "list", "data": [model]})


class Template(Answer):
    """POST /apply-template, beside /v1: self-chat asks it for the chat format. Free, and answered at once."""

    async def post(self):
        self.write(await self.room.upstream.template(read_body(self.request.body).get("messages")))


class Completion(Answer):
    """POST of a request for a completion, whole or streamed: waits for its turn, is answered, is charged."""

    def initialize(self, kind):
        self.kind = kind
        self.task = None

    async def post(self):
        body, worst = read_completion(self.request.body, self.kind, self.room.upstream.model)
        self.task = asyncio.create_task(self._in_turn(body, worst))
        try:
            await self.task
        except OverBudget:
            budget = self.room.accounts.budget
            left = max(budget - self.account.spent, 0)
            raise Refusal(
                429,
                "insufficient_quota",
                f"Your budget is used up: {left:,} of {budget:,} tokens are left, and this request may take "
                f"{sum(worst):,}. Ask your instructor for more.",
            ) from None
        except Closed:
            raise Refusal(503, "stopping", "The room's teacher is being stopped. Try again later.") from None
        except asyncio.CancelledError:
            if not self.task.cancelled():
                raise

    def on_connection_close(self):
        """The student has gone (an interrupted cell): give up the place in the queue, and the answer under way."""
        if self.task:
            self.task.cancel()

    async def _in_turn(self, body, worst):
        async with self.room.queue.turn(self.account, sum(worst)) as turn:
            self.used = worst  # an answer that is broken off counts as if it had come
            try:
                if body.get("stream"):
                    await self._stream(body)
                else:
                    reply = await self.room.upstream.reply(self.kind, body)
                    self.used = billed(reply, worst)
                    self.write(reply)
            except Refusal:
                self.used = Tokens()
                raise
            finally:
                turn.used = sum(self.used)
                if turn.used:
                    await asyncio.shield(self.room.accounts.charge(self.account, self.used))

    async def _stream(self, body):
        """Pieces as they come. The usage comes last, and is passed on to those who asked for it."""
        self.set_header("Content-Type", "text/event-stream")
        wanted, written = (body.get("stream_options") or {}).get("include_usage"), 0
        try:
            async for piece in self.room.upstream.pieces(self.kind, body):
                written += 1
                self.used = billed(piece, Tokens(self.used.prompt, written))
                if piece.get("choices") or wanted:
                    await self._event(json.dumps(piece, ensure_ascii=False))
            await self._event("[DONE]")
        except Refusal as refusal:
            if not written:
                raise
            await self._event(json.dumps(refusal.body()))

    async def _event(self, data):
        self.write(f"data: {data}\n\n")
        await self.flush()


def billed(reply: dict, fallback: Tokens) -> Tokens:
    """Read the Tokens that an answer took; `fallback` where it says nothing, or what can't be: zeros are not free."""
    usage = json.loads(json.dumps(reply.get("usage")), object_hook=lambda entries: SimpleNamespace(**entries))
    choices = [choice for choice in reply.get("choices") or () if isinstance(choice, dict)]
    messages = [choice.get("message") or choice.get("delta") or {"content": choice.get("text")} for choice in choices]
    text = "some" if any(message.get("content") for message in messages) else ""
    return read_usage(usage, text, fallback)


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C, or show what each student has used; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python tools/classroom.py", description="One teacher for a whole room.")
    parser.add_argument("--students", type=int, default=30, help="keys that there must be at least (30)")
    parser.add_argument("--tokens", type=int, default=200_000, help="each student's budget, in tokens (200000)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: the whole network; default: this machine only")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--places", type=int, default=16, help="requests answered at the same time (16)")
    parser.add_argument("--usage", action="store_true", help="show what each student has used, and end")
    asked = parser.parse_args(arguments)
    try:
        if not asked.usage:
            with Accounts(asked.students, asked.tokens) as accounts, teacher.from_env(asked.places) as model:
                asyncio.run(serve(model, accounts, asked))
        print(usage(asked.tokens))
        return 0
    except (CourseError, KeyboardInterrupt) as error:
        print(str(error) or "Stopped.", file=sys.stderr)
        return 1


async def serve(model: teacher.Teacher, accounts: Accounts, asked: argparse.Namespace) -> None:
    """Serve the endpoint, from its first word to the last answer."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C breaks the loop off, answers under way with it
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with model.client(max_retries=4, timeout=600) as client:
        room = Room(accounts, Upstream(model, client), asked.places)
        try:
            port = room.listen(asked.port, asked.host)
        except OSError as error:
            raise CourseError(
                f"Can't listen at {asked.host}, port {asked.port} ({error.strerror}). "
                "Name another: make teacher PORT=8766"
            ) from error
        # Keys are shown in the run that makes them, never again.
        private = ", which only you can read" if os.name != "nt" else ""
        print(*(f"{name}  {key}" for name, key in accounts.new), sep="\n")
        print(f"{len(accounts.new)} new keys; all are in {common.show(accounts.keys_path)}{private}\n")
        print(f"{asked.tokens:,} tokens for each student. They set, before Jupyter starts:")
        print(f"    BAIZE_TEACHER_URL=http://{address(asked.host)}:{port}/v1\n    OPENAI_API_KEY=their key\n")
        print("Ctrl-C stops it. The same command goes on with the same keys and the same sums.", flush=True)
        await stop.wait()
        print("\nStopping: answers under way are finished, nobody new is let in.", flush=True)
        await room.stop()


def address(host: str) -> str:
    """Find how others reach this machine: its address on the network where it listens to all, else the host itself."""
    if host != "0.0.0.0":
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which way a packet would leave
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def usage(budget: int) -> str:
    """Make the table of what each student has used. Good while a server runs as well."""
    accounts = {account.name: account for account in read_accounts().values()}
    rows = [f"{a.name:<14}{a.answered:>9,}{a.spent:>12,}{a.spent / budget:>14.0%}" for _, a in sorted(accounts.items())]
    head = f"{'student':<14}{'answers':>9}{'tokens':>12}{'of ' + format(budget, ','):>14}"
    return "\n".join([head, *rows]) if rows else "There are no keys yet: make teacher"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
