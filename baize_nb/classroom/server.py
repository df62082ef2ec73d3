"""The room's endpoint: HTTP in the form of OpenAI's API, on tornado (which JupyterLab brings along).

Knows: addresses, keys in headers, streaming. Does not know: whose turn it is, or how the teacher is asked.
Nothing is logged: neither keys nor texts.
"""

import asyncio
import json

import tornado.httpserver
import tornado.netutil
import tornado.web

from ..selfchat.budget import Tokens
from .requests import Refusal, read_body, read_completion
from .turns import Closed, OverBudget, Turns

LARGEST = 2**20  # bytes of a request; what a course's model reads is far less


class Room:
    """What all requests share: accounts, turns, and the teacher."""

    def __init__(self, accounts, upstream, places):
        self.accounts, self.upstream = accounts, upstream
        self.turns = Turns(places, accounts.budget)

    def listen(self, port, host):
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

    async def stop(self, seconds=30):
        """Take no more requests, send away who waits, and give those being answered some seconds to end."""
        self._server.stop()
        self.turns.close()
        for _ in range(10 * seconds):
            if not self.turns.running.total():
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
        """Every failure as JSON."""
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
            raise self._over_budget(worst) from None
        except Closed:
            raise Refusal(503, "stopping", "The room's teacher is being stopped. Try again later.") from None
        except asyncio.CancelledError:
            if not self.task.cancelled():
                raise

    def on_connection_close(self):
        """The student has gone (an interrupted cell): give up the place in the line, and the answer under way."""
        if self.task:
            self.task.cancel()

    async def _in_turn(self, body, worst):
        async with self.room.turns.turn(self.account, sum(worst)) as turn:
            self.used = worst  # an answer that is broken off counts as if it had come
            try:
                await (self._stream if body.get("stream") else self._whole)(body)
            except Refusal:
                self.used = Tokens()
                raise
            finally:
                turn.used = sum(self.used)
                if turn.used:
                    await asyncio.shield(self.room.accounts.charge(self.account, self.used))

    async def _whole(self, body):
        reply = await self.room.upstream.reply(self.kind, body)
        self.used = usage_of(reply) or self.used
        self.write(reply)

    async def _stream(self, body):
        """Pieces as they come. The usage comes last, and is passed on to those who asked for it."""
        self.set_header("Content-Type", "text/event-stream")
        wanted, written = (body.get("stream_options") or {}).get("include_usage"), 0
        try:
            async for piece in self.room.upstream.pieces(self.kind, body):
                written += 1
                self.used = usage_of(piece) or Tokens(self.used.prompt, written)
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

    def _over_budget(self, worst):
        budget = self.room.accounts.budget
        return Refusal(
            429,
            "insufficient_quota",
            f"Your budget is used up: {max(budget - self.account.spent, 0):,} of {budget:,} tokens are left, and this "
            f"request may take {sum(worst):,}. Ask your instructor for more.",
        )


def usage_of(reply):
    """The Tokens that an answer says it took, or None."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    return Tokens(*counts) if counts and all(isinstance(count, int) for count in counts) else None
