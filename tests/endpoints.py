"""A small real HTTP server on loopback that does whatever a test tells it."""

import asyncio
import contextlib
import json
import socket
import struct
import threading
from dataclasses import dataclass, field

from baize_nb.seeds import Seed


def make_seeds(n):
    return [Seed(f"s-{i}", f"What is number {i} good for?", "numbers", "Apache-2.0") for i in range(n)]


@dataclass
class Answer:
    """What to send back. fault: "" or "reset" (drop the connection), "hang" (never answer), "cut" (half a body)."""

    body: object = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    fault: str = ""


def completion(text, finish="stop", usage=(20, 10), **more):
    """The body of a completion, good for both the chat and the text endpoint."""
    choice = {"index": 0, "finish_reason": finish, "text": text, "message": {"role": "assistant", "content": text}}
    tokens = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    about = {"id": "one-id-for-all", "object": "chat.completion", "created": 0, "model": "m"}
    return about | {"choices": [choice], "usage": tokens} | more


@contextlib.contextmanager
def serving(answer):
    """An endpoint whose replies come from the coroutine `answer(path, body) -> Answer`; yields its address with /v1.

    It runs in a thread with an event loop of its own, and serves thousands of requests at a time.
    """
    loop, ready = asyncio.new_event_loop(), threading.Event()
    servers = []

    async def connection(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await _one(reader, writer, answer):
                pass
        writer.close()

    async def serve():
        server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=4096, limit=2**25)
        servers.append(server)
        ready.set()

    def run():
        asyncio.set_event_loop(loop)
        loop.create_task(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        loop.call_soon_threadsafe(servers[0].close)  # nothing listens any more
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def answering(status, body="{}"):
    """An endpoint that gives every request the same HTTP status and JSON text."""

    async def answer(path, asked):
        return Answer(body.encode(), status)

    return serving(answer)


async def _one(reader, writer, answer):
    """Read one request and answer it; whether the connection can be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    multipart = headers.get("content-type", "").startswith("multipart")
    asked = (headers["content-type"], content) if multipart else json.loads(content or b"null")
    reply = await answer(request.split()[1], asked)
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    if reply.fault == "hang":
        await asyncio.sleep(3600)
    if reply.fault == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False
    named = {"Content-Type": "application/json", "Content-Length": str(len(body))} | reply.headers
    writer.write(f"HTTP/1.1 {reply.status} x\r\n".encode())
    writer.write("".join(f"{name}: {value}\r\n" for name, value in named.items()).encode() + b"\r\n")
    writer.write(body[: len(body) // 2] if reply.fault == "cut" else body)
    await writer.drain()
    return reply.fault != "cut"
