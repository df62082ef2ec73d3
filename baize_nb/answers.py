"""What an endpoint's answer holds, in all the shapes that answers come in: text, why it ended, what it is billed."""

import re
from typing import NamedTuple

from .faults import Faulty, told
from .text import remove_thoughts


class Tokens(NamedTuple):
    """Tokens of one or many requests: read by the model (`prompt`) and written by it (`completion`)."""

    prompt: int = 0
    completion: int = 0

    def plus(self, other):
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def minus(self, other):
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)


class Completion(NamedTuple):
    """What an endpoint answered, its thoughts left out.

    finish : "stop"; "length" (at the token limit); "thoughts" (there, before the first word of the answer);
             "content_filter"; "refusal: …".
    top    : {token: log-probability} of the likeliest first tokens.
    """

    text: str
    finish: str
    usage: Tokens
    top: dict | None = None


# What endpoints call the reasons for an end; what is none of these, or missing, is a stop.
_FINISH = {
    "fault": r".*(?:error|abort|cancel|insufficient|malformed|time_?out|failed).*",
    "length": r".*(?:length|max_?(?:output_|completion_|new_)?tokens|token_limit|context_window).*",
    "content_filter": r".*(?:filter|safety|recitation|prohibited|block|spii|sensitive|guardrail|moderat|flagged).*"
    r"|refusal",
}


def read_finish(finish) -> str:
    """Return "stop", "length", "content_filter" or "fault" for what an endpoint gives as the reason of an end."""
    finish = str(finish or "").lower()
    for kind, names in _FINISH.items():
        if re.fullmatch(names, finish.removeprefix("finish_reason_")):
            return kind
    return "stop"


def read_usage(usage, text: str, worst: Tokens) -> Tokens:
    """Return the Tokens that an answer is billed; the worst case where its usage is missing or can't be true."""
    read, wrote, total = (getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion", "total"))
    if wrote is None and type(read) is type(total) is int:  # thoughts only
        wrote = total - read
    if not all(type(n) is int and n >= 0 for n in (read, wrote)) or not read or (text and not wrote):
        return worst
    thoughts = _reasoning(usage)
    if thoughts > wrote:
        wrote += thoughts
    if type(total) is int:  # some endpoints name thoughts in the total only
        wrote = max(wrote, total - read)
    return Tokens(read, wrote)


def _reasoning(usage):
    """Tokens of thoughts that a usage names, 0 for none."""
    details = getattr(usage, "completion_tokens_details", None)
    named = (getattr(at, "reasoning_tokens", 0) for at in (details, usage))
    return max(n if type(n) is int else 0 for n in named)


def read_content(message) -> tuple[str, bool]:
    """Return (text, whether there were thoughts) of a message, of a part of a stream or of a raw completion."""
    content = getattr(message, "content", None) or getattr(message, "text", None) or ""
    thoughts = bool(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))
    if not isinstance(content, list | dict):
        return content, thoughts
    said = ""
    for part in [content] if isinstance(content, dict) else content:
        part = {"text": part} if isinstance(part, str) else part
        if isinstance(part, dict):
            kind, text = str(part.get("type") or "text"), part.get("text")
            thoughts = thoughts or bool(re.search("think|reason", kind))
            if kind in ("text", "output_text") and isinstance(text, str):
                said += text
    return said, thoughts


def read_completion(reply, worst: Tokens) -> Completion:
    """Return the Completion in a reply of either kind. Raises Faulty for anything else, with what it may have cost."""
    if isinstance(reply, str) and "<" in reply[:100]:
        raise Faulty("the endpoint sent a web page where an answer should be", Tokens())
    if isinstance(reply, str) and reply.lstrip().startswith("data:"):  # billed, and the same at every attempt
        raise Faulty("the endpoint streamed its answer, which was not asked for", worst, 200)
    choices, usage = getattr(reply, "choices", None), getattr(reply, "usage", None)
    if error := getattr(reply, "error", None) or (not choices and getattr(reply, "base_resp", None)):
        # Under HTTP 200, as routers do; what a broken answer has cost may stand beside it.
        fault = Faulty("", read_usage(usage, "", Tokens()), body=error)
        fault.args = (f"the endpoint sent an error: {told(fault)[1]}",)
        raise fault
    if not isinstance(choices, list) or not choices or choices[0] is None:
        # Without choices and usage it is no answer of a model, and nobody bills it.
        made = usage is not None or isinstance(choices, list)
        raise Faulty("the endpoint sent a reply without choices", read_usage(usage, "", worst) if made else Tokens())
    choice = choices[0]
    message = getattr(choice, "message", None) or choice
    raw, thoughts = read_content(message)
    bill, finish = read_usage(usage, raw, worst), read_finish(getattr(choice, "finish_reason", None))
    if not isinstance(raw, str) or (message is choice and not hasattr(choice, "text")):
        raise Faulty("the endpoint sent a choice without a text", bill)
    if len(raw) > 1000 + 20 * worst.completion:
        raise Faulty(f"the endpoint sent {len(raw):,} characters for {worst.completion} tokens", bill)
    if finish == "fault":
        raise Faulty(f"the endpoint broke off its answer ({choice.finish_reason})", bill)
    thoughts = thoughts or _reasoning(usage) > 0 or (finish == "length" and raw == "" and message is not choice)
    text, refusal = remove_thoughts(raw).strip(), getattr(message, "refusal", None)
    if refusal and not text:
        finish = f"refusal: {' '.join(str(refusal).split())[:500]}"
    elif finish in ("length", "stop") and not text and (thoughts or raw.strip()):
        finish = "thoughts"
    logprobs = getattr(getattr(choice, "logprobs", None), "content", None)
    top = getattr(logprobs[0], "top_logprobs", None) if isinstance(logprobs, list) and logprobs else None
    return Completion(text, finish, bill, {t.token: t.logprob for t in top or () if hasattr(t, "logprob")} or None)
