"""The teacher behind the room's endpoint, asked through the `openai` client.

Knows: how to ask it, and which of its faults concern the student. Does not know: who asks.
Retries, time-outs and proxies are the client's. A fault that only the instructor can mend says so, and shows nothing of
the instructor's address or key.
"""

import openai

from .requests import Refusal

PATHS = {"messages": "/chat/completions", "prompt": "/completions"}


class Upstream:
    """Asks one Teacher, through an `openai.AsyncOpenAI` client for it."""

    def __init__(self, teacher, client):
        self.model = teacher.model
        self._client = client
        self._beside = str(client.base_url).rstrip("/").removesuffix("/v1")

    async def reply(self, kind, body):
        """The whole answer, as a dictionary. Raises Refusal."""
        with faults():
            return await self._client.post(PATHS[kind], body=body, cast_to=object)

    async def pieces(self, kind, body):
        """The answer piece by piece, as dictionaries; the last one holds the usage. Raises Refusal."""
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        with faults():
            stream = await self._client.post(
                PATHS[kind], body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
            async with stream:
                async for piece in stream:
                    yield piece

    async def template(self, messages):
        """What llama.cpp's server makes of a chat before its model reads it. Raises Refusal where there is no such."""
        with faults():
            return await self._client.post(
                f"{self._beside}/apply-template", body={"messages": messages}, cast_to=object
            )


class faults:
    """Context manager: an error of the client becomes a Refusal."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, openai.APIStatusError):
            raise _refusal(error) from None
        if isinstance(error, openai.APIError | ValueError):
            raise Refusal(503, "teacher_unavailable", "The room's teacher does not answer. Try again.") from None


def _refusal(error):
    """What a status of the teacher means for the student."""
    quota = error.code == "insufficient_quota"
    if error.status_code in (400, 404, 413, 422):
        return Refusal(error.status_code, error.code or "invalid_request", _sentence(error))
    if error.status_code == 429 and not quota:
        return Refusal(429, "rate_limit_exceeded", "The room's teacher is asked too often. Try again in a moment.")
    if quota or error.status_code in (401, 402, 403):
        text = "The room's teacher refuses the room's own key, or its quota is used up. Tell your instructor."
        return Refusal(503, "teacher_unavailable", text)
    return Refusal(503, "teacher_unavailable", "The room's teacher has a fault. Try again.")


def _sentence(error):
    """What the teacher said, without the client's words around it."""
    said = error.body.get("message") if isinstance(error.body, dict) else None
    return said if isinstance(said, str) else "The room's teacher does not take this request."
