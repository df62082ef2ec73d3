"""Chunks of a completion while they come, from a request that can be broken off at any moment.

Knows: the openai client, and threads. Does not know: what is in a request or a chunk.
The request runs in a thread with an event loop of its own. A blocking client could not be stopped while it waits for
the first word: closing a socket does not wake the thread that reads from it. Cancelling a task does.
"""

import asyncio
import contextlib
import queue
import threading

import openai

from ..common import CourseError
from ..teacher import explained

LOOK = 0.05  # seconds between two looks at the wish to stop, while nothing comes


@contextlib.contextmanager
def chunks(teacher, kind, body, stopped):
    """Iterator over the chunks of one streamed completion; leaving the block closes the connection.

    kind    : "chat" or "text", the endpoint's two ways to complete. body: the request.
    stopped : asked while waiting; True ends the iterator.
    Raises what went wrong at the endpoint: CourseError where a person can mend it, else openai.APIError.
    """
    request = _Request(teacher, kind, body)
    try:
        yield request.chunks(stopped)
    finally:
        request.cancel()


class _Request:
    """One request under way in its thread."""

    def __init__(self, teacher, kind, body):
        self._teacher, self._kind, self._body = teacher, kind, body
        self._queue, self._loop = queue.SimpleQueue(), asyncio.new_event_loop()
        self._task = self._loop.create_task(self._fetch())
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        """The thread: everything that comes goes into the queue, an exception or None last."""
        try:
            self._loop.run_until_complete(self._task)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _fetch(self):
        async with self._teacher.client() as client:
            create = (client.chat.completions if self._kind == "chat" else client.completions).create
            async with await create(model=self._teacher.model, stream=True, **self._body) as stream:
                async for chunk in stream:
                    self._queue.put(chunk)

    def chunks(self, stopped):
        began = False
        while not stopped():
            try:
                item = self._queue.get(timeout=LOOK)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                self._explain(item, began)
            began = True
            yield item

    def _explain(self, error, began):
        """Raise an error of the thread, in words that help where there are some. began: after a first chunk."""
        if isinstance(error, openai.OpenAIError) and not (began and isinstance(error, openai.APIConnectionError)):
            with explained(self._teacher):
                raise error
        raise CourseError(
            f"The reply from {self._teacher.base_url} broke off ({type(error).__name__}). Check the endpoint and the "
            "network, and ask again."
        ) from error

    def cancel(self):
        """Close the connection, if the request is still under way."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._task.cancel)
