"""What may be asked, and refusals in the form that OpenAI's clients read.

Knows: the fields of a completion request, and how much one can take. Does not know: students, turns, HTTP servers.
Fields that are not listed here are refused: an endpoint may have some that reach further than one student's request.
"""

import json

from ..selfchat.asking import worst_case

DEFAULT_TOKENS, MOST_TOKENS = 512, 2048  # of one answer: where the request names no number, and at most
SAMPLING = {"temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "stop", "seed", "n"}
SAMPLING |= {"repeat_penalty"}  # llama.cpp's name
ANSWER = {"max_tokens", "max_completion_tokens", "stream", "stream_options", "logprobs", "top_logprobs"}
FIELDS = SAMPLING | ANSWER | {"model", "response_format", "user"}


class Refusal(Exception):
    """A request that is not answered: HTTP status, code, and a sentence for the student."""

    def __init__(self, status, code, sentence):
        super().__init__(sentence)
        self.status, self.code = status, code

    def body(self):
        """The JSON in which OpenAI's API says so."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = self.code if self.status == 429 else kind
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.code}}


def bad(sentence):
    """Refusal of a request that makes no sense."""
    return Refusal(400, "invalid_request", sentence)


def read_body(raw):
    """The JSON object in a request's bytes. Raises Refusal."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise bad("The request's body is no JSON.") from None
    if not isinstance(body, dict):
        raise bad("The request's body is no JSON object.")
    return body


def read_completion(raw, kind, model):
    """(body to pass on, worst case in tokens) of a request for a completion. Raises Refusal.

    kind  : "messages" for a chat, "prompt" for a text to continue.
    model : the only one that there is.
    """
    body = read_body(raw)
    if unknown := sorted(set(body) - {kind, *FIELDS}):
        raise bad(f"This endpoint does not know the field {unknown[0]!r}.")
    if body.get("model", model) != model:
        raise Refusal(404, "model_not_found", f"There is no model {body['model']!r} here; there is {model!r}.")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise bad("'stream_options' should be a JSON object.")
    most = _number(body, "max_completion_tokens", _number(body, "max_tokens", DEFAULT_TOKENS))
    if most > MOST_TOKENS:
        raise bad(f"An answer may have at most {MOST_TOKENS} tokens here; the request asks for {most}.")
    text = _texts(body, kind)
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


def _texts(body, kind):
    """The prompt, or the messages: texts only, since what else a message may hold can't be counted beforehand."""
    value = body.get(kind)
    if kind == "prompt" and isinstance(value, str):
        return value
    if kind == "messages" and isinstance(value, list) and value and all(_is_message(m) for m in value):
        return value
    form = "one text" if kind == "prompt" else 'a list of {"role": …, "content": …}, both texts'
    raise bad(f"{kind!r} should be {form}.")


def _is_message(message):
    texts = isinstance(message, dict) and set(message) <= {"role", "content", "name"}
    return texts and {"role", "content"} <= set(message) and all(isinstance(v, str) for v in message.values())
