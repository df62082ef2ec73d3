"""What goes wrong at an endpoint, and what it means: for one text, for one parameter, or for the whole run.

The codes and words are those of OpenAI, Azure, OpenRouter, Gemini, Mistral, Groq, DeepSeek, vLLM, LiteLLM, Ollama.
"""

import os
import re
import time
from contextlib import suppress

from .common import CourseError


class Faulty(Exception):
    """An answer that is none: no JSON, no choices, an error under HTTP 200. bill : what it may have cost (Tokens)."""

    def __init__(self, message, bill, status_code=None, body=None):
        super().__init__(message)
        self.bill, self.status_code, self.body = bill, status_code, body


_WORDS = ("message", "detail", "msg", "error", "raw", "reason", "reasons", "errors", "title", "loc", "status_msg")
_CODES = ("code", "type", "status", "param", "metadata", "innererror", "details", "retryDelay")
_KEY = re.compile(r"\b(?:sk|gsk|key|AIza|xai)[-_]?[\w*-]{12,}")


def told(error: Exception) -> tuple[int, str, str]:
    """Return (HTTP status or 0, the provider's own words in one line, the same with all codes); never a key."""
    body = getattr(error, "body", None)
    words = " ".join(dict.fromkeys(_said(body, _WORDS))) or str(error)
    codes = " ".join(_said(body, _WORDS + _CODES)) or words
    words, codes = (" ".join(_KEY.sub("…", text).split()) for text in (words, codes))
    status = getattr(error, "status_code", None) or 0
    if not status and isinstance(body, dict) and re.fullmatch("[45][0-9]{2}", str(body.get("code"))):
        status = int(body["code"])  # in a stream, or under HTTP 200
    return status, words[:300], codes[:2000]


def _said(body, fields):
    """The texts of an error's body, whatever its shape; not what it quotes of the request ("input")."""
    if isinstance(body, dict):
        for field in fields:
            for said in _said(body.get(field), fields):
                yield f"retry in {said}" if field == "retryDelay" else said
    elif isinstance(body, list | tuple):
        for part in body:
            yield from _said(part, fields)
    elif isinstance(body, str) and "<html" in body[:500].lower():
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.S | re.I)
        yield f"a web page: {title[1].strip()}" if title else "a web page"
    elif body is not None and not isinstance(body, bool):
        yield str(body)


def describe(error: Exception) -> str:
    """Return a fault in one line for failed.jsonl, without addresses or keys."""
    status, words, _ = told(error)
    if status:
        words = f"HTTP {status}: {words}"
    elif type(error) not in (Faulty, ValueError):
        words = f"{type(error).__name__}: {words}"
    return " ".join(words.split())[:500]


_NEAR = r"(?:[^.]|\.\S){0,80}"  # within a sentence; the name of a model has dots of its own
# What it is, the HTTP statuses that can mean it, and the words and codes that do; the first that fits counts.
_KINDS = {
    "money 400 401 402 403 412 429": r"insufficient[_ ](?:\w+ )?(?:quota|balance|credit|fund)|\bcredits\b"
    r"|exceeded(?:_| your )current[_ ]quota|credit[_ ](?:balance|limit)|billing[_ ](?:hard[_ ]limit|not[_ ]active)"
    r"|budget(?:_?| has been )exceeded|(?:over|exceeded) ?budget|payment[_ ]required|spend(?:ing)?[_ ]limit"
    r"|key limit exceeded|in arrears|account (?:is )?(?:overdue|suspended|not active)|欠费|余额不足",
    "region 400 403 451": r"unsupported_country"
    r"|(?:country|region|territor|location)\w*[^.]{0,40}(?:not |n't |un|restrict|block)"
    r"|not (?:available|supported|allowed) in (?:your|this) (?:country|region|location|territor)",
    "key 400 403": r"(?:api|access|secret)[ _-]?key\b[^.]{0,60}(?:not valid|invalid|incorrect|expired|revoked|missing"
    r"|required|disabled|leaked|unknown)|api_key_invalid"
    r"|(?:invalid|incorrect|missing|expired|unknown|no)[ _](?:api[ _-]?key|credential|authentication)",
    "model 400 401 403 404 410 422": r"model_not_\w+|model_decommissioned|deploymentnotfound|no models? loaded"
    r"|(?:not a valid|invalid|no such|unknown)[_ ]model|no endpoints found|no allowed providers"
    rf"|deployment{_NEAR}not (?:exist|found)|models?\b{_NEAR}(?:not[ _]found|not exist|n't exist|decommissioned"
    r"|deprecated|retired|no longer (?:available|supported|served|offered)|shut down|not available)"
    r"|access (?:to )?(?:the )?model",
    "model 500": r"(?:could not|failed to|cannot) load model|requires more (?:system )?memory",
    "path 400": r"unexpected endpoint",
    "context 429": r"request too large",  # for a minute's tokens: it never fits
    "filter 400 403 422 451": r"content[_ ](?:filter|policy|management)|responsibleai|flagged|moderation|safety"
    r"|prohibited|usage polic|inappropriate|data_inspection|sensitive|敏感|不安全"
    r"|(?:prompt|input|request) was (?:blocked|rejected)",
    "key 403": r"\b(?:key|token)\b|permission|authori[sz]|authentic|credential|scope|subscription|account"
    r"|access to th",
    "context 400 413 422 500": r"context(?! (?:deadline|cancel))|too (?:long|large)|too many tokens|token limit"
    r"|reduce (?:the|your)|(?<!deadline )(?<!limit[ _])(?<!quota )(?<!capacity )exceed"
    r"|maximum (?:length|number of tokens)|tokens[^.]{0,40}must be|(?:input|prompt)[^.]{0,20}length",
}
_BY_STATUS = {401: "key", 402: "money", 404: "path", 405: "path", 407: "proxy", 413: "context", 451: "region"}
_ON_THE_WAY = {  # faults of the HTTP library, and of what caused them
    "certificate": "CERTIFICATE_VERIFY",
    "proxy": "ProxyError",
    "path": "UnsupportedProtocol|InvalidURL",
    "connection": "^(APIConnectionError|APITimeoutError)",
}
# The faults before a request was sent, so that nothing can have been billed.
_NEVER_SENT = re.compile("Connect(Error|Timeout)|PoolTimeout|ProxyError|UnsupportedProtocol|LocalProtocolError")


def kind_of(error: Exception) -> str:
    """Return what a fault is: "money", "region", "key", "model", "path", "proxy", "certificate", "connection": these
    concern the whole run; "filter" and "context": this one text; "": unknown.
    """
    status, _, text = told(error)
    if not status and getattr(error, "body", None) is None:
        chain, cause = "", error
        while cause is not None:
            chain += f"{type(cause).__name__}: {cause} "
            cause = cause.__cause__ or cause.__context__
        return next((kind for kind, pattern in _ON_THE_WAY.items() if re.search(pattern, chain)), "")
    if not text.startswith("a web page"):  # a firewall's or a portal's: its words say nothing about key or model
        for about, pattern in _KINDS.items():
            kind, *statuses = about.split()
            found = re.search(pattern, text, re.I) if str(status or 400) in statuses else None
            if found and status == 429 and "current quota" in found[0].lower() and "retry" in text.lower():
                return ""  # Gemini says so, and how long to wait, where a minute's requests are used up
            if found:
                return kind
    return _BY_STATUS.get(status, "")


def never_sent(error: Exception) -> bool:
    """Whether a request never reached the endpoint (nothing listens, unknown host, a proxy in between refuses)."""
    return bool(_NEVER_SENT.fullmatch(type(error.__cause__).__name__))


def passes(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    status, kind = told(error)[0], kind_of(error)
    if not status:
        return kind in ("", "connection", "certificate", "proxy")
    return not kind and (status in (408, 409, 425, 429) or (status >= 500 and status != 501))


_NAMED = {  # how the parameters are called that are not called by their name
    "stop": r"stop(?:[_ ]?sequences?)?",
    "frequency_penalty": r"frequency[_ ]?penalty|penalty is",
    "system": r"system (?:role|message|prompt|instruction)s?|'system'|\"system\"|developer instruction|roles must"
    r" alternate|only user\W.{0,20}assistant\W.{0,3}roles|messages?\W{1,3}0\W{1,3}role",
}


def refused(error: Exception, body: dict) -> list[str]:
    """Return the parameters of a request that a fault says the endpoint does not take; "system": a system message."""
    status, _, text = told(error)
    if status not in (400, 422, 500, 501) or kind_of(error):
        return []
    names = ["system"] if any(m["role"] == "system" for m in body.get("messages", ())) else []
    if status < 500:
        names += [*body, *body.get("extra_body", ())]
    text = re.sub(r"([a-z])([A-Z])", r"\1_\2", text).lower()  # presencePenalty
    found = set()
    for name in names:
        called = rf"(?<![a-z_])(?:{_NAMED.get(name, name)})(?![a-z_])"
        if name not in ("model", "messages", "prompt", "stream", "extra_body") and re.search(called, text):
            found.add(name)
    if getattr(error, "param", None) in found:
        return [error.param]
    return sorted(found - {"temperature"} if "top_p" in found else found)  # "only one of the two"


_EMBEDDED = "Unset BAIZE_TEACHER_URL and OPENAI_API_KEY to use the embedded teacher."
_SENTENCES = {  # what to tell a person about a fault that concerns the whole run
    "key": "{where} refused the key {said}. Check OPENAI_API_KEY: no quotes, no spaces, not revoked, and allowed to "
    "use this model. Without a key, unset it to use the embedded teacher.",
    "money": "{where} says that this key has no quota left {said}. Add credit at the provider, or ask your instructor "
    f"for more; or else: {_EMBEDDED} What was made so far is kept.",
    "region": f"{{where}} does not serve the place that this machine is in {{said}}. Try another. {_EMBEDDED}",
    "model": "{where} has no model {model!r} for this key {said}. Set BAIZE_TEACHER_MODEL to one that it has.",
    "path": "{where} does not know this request {said}. Give BAIZE_TEACHER_URL up to and with the version, as in "
    "https://example.org/v1, and name the model in BAIZE_TEACHER_MODEL.",
    "proxy": "The proxy on the way to {where} refuses {said}. {proxies} Give it name and password, "
    f"http://name:password@host:port, or name this host in NO_PROXY. {_EMBEDDED}",
    "certificate": "{where} shows a certificate that this machine does not trust. If it is your own or your "
    "organisation's, set SSL_CERT_FILE to a file with that certificate before starting Jupyter.",
    "connection": f"Nothing answers at {{where}}. Is the endpoint running, its address (http or https?) right? "
    f"{{proxies}} {_EMBEDDED}",
}


def explained(error: Exception, teacher) -> Exception:
    """Return the CourseError of a fault that concerns the whole run: the provider's words, the remedy; else `error`."""
    kind, (status, words, _) = kind_of(error), told(error)
    if kind not in _SENTENCES:
        return error
    said = f'(HTTP {status}: "{words}")' if status else f'("{error.__cause__ or words}")'
    sentence = _SENTENCES[kind].format(where=teacher.base_url, model=teacher.model, proxies=_proxies(), said=said)
    if kind == "model":
        with suppress(Exception):  # it says what it has, or it does not
            sentence += f" It has: {', '.join(sorted(teacher.models())[:8])} …"
    key = teacher.api_key or ""
    return CourseError(sentence.replace(key, "…") if len(key) > 5 else sentence)


def _proxies():
    names = [name for name, value in os.environ.items() if value and re.fullmatch("(?i)(https?|all)_proxy", name)]
    return f"A proxy is set in {', '.join(sorted(names))}." if names else "No proxy is set."


def proxy_unusable(error: Exception) -> CourseError:
    """Return the error for a proxy setting with which the HTTP library can't even begin."""
    remedy = "For a socks proxy: write socks5://host:port, and `pip install socksio`. Or name the host in NO_PROXY."
    return CourseError(f"{_proxies()} It can't be used ({error}). {remedy}")


_AGAIN = re.compile(
    r"(?i)(?:(?:again|retry|resets?|available)\W+(?:in|after)(?: about)?|wait(?: for)?)\W+"
    r"(\d[\d.]*(?: ?[a-zµ]+(?:[\d.]+[a-zµ]+)*)?)(?![-:/\w])"
)


def asked_pause(headers, words: str = "") -> float | None:
    """Return the seconds that an endpoint asks us to wait; None where it does not say.

    headers : Retry-After (RFC 9110) or its variant in milliseconds, or the reset time of each limit that is used up.
    words   : those of the fault: "Please try again in 7m12s".
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        if (asked := _seconds(headers.get(name))) is not None:
            return asked / unit
    resets = []
    for name, value in headers.items():
        if re.search("ratelimit.*reset", name, re.I):
            left = headers.get(name.lower().replace("reset", "remaining"))
            if left is None or _seconds(left) == 0:
                resets.append(_seconds(value))
    if found := _AGAIN.search(words):
        resets.append(_seconds(found[1]))
    return max((seconds for seconds in resets if seconds is not None), default=None)


def _seconds(text):
    """Seconds from now, of a number, a duration ("1d2h", "6m0s", "20ms", "5 seconds") or a moment; else None."""
    import pandas as pd  # here: few runs are asked to wait

    text = (text or "").strip() or "?"  # pandas reads an empty one
    with suppress(ValueError):
        number = float(text)
        if number >= 1.5e9:  # a moment: seconds, or milliseconds, since 1970
            number = number / (1000 if number >= 1.5e12 else 1) - time.time()
        return max(0.0, number) if number < float("inf") else None  # not nan either
    with suppress(ValueError):
        duration = re.sub(r"(?<=hr|in|ec)s\b", "", text.lower())  # hrs, mins, secs
        return pd.Timedelta(re.sub(r"d(?=\d|$)", "D", duration)).total_seconds()
    with suppress(ValueError):
        moment = pd.Timestamp(text)
        moment = moment if moment.tzinfo else moment.tz_localize("UTC")
        return max(0.0, moment.timestamp() - time.time())
    return None
