"""What goes wrong at an endpoint, and what it means: for one text, for one parameter, or for the whole run.

The codes and words are those of OpenAI, Azure, OpenRouter, Gemini, Mistral, Groq, DeepSeek, vLLM, LiteLLM, Ollama.
"""

import email.utils
import os
import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime

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
            said = _said(body.get(field), fields)
            yield from (f"retry in {delay}" for delay in said) if field == "retryDelay" else said
    elif isinstance(body, list | tuple):
        for part in body:
            yield from _said(part, fields)
    elif isinstance(body, str) and "<html" in body[:500].lower():
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.S | re.I)
        yield f"a web page: {title[1].strip()}" if title else "a web page"
    elif body is not None and not isinstance(body, bool):
        yield str(body)


_NEAR = r"(?:[^.]|\.\S){0,80}"  # within a sentence; the name of a model has dots of its own
# (what it is, HTTP statuses that can mean it, words and codes); the first that fits counts.
_KINDS = (
    (
        "money",
        (400, 401, 402, 403, 412, 429),
        r"insufficient[_ ](?:\w+ )?(?:quota|balance|credit|fund)|exceeded_current_quota|exceeded your current quota"
        r"|billing[_ ](?:hard[_ ]limit|not[_ ]active)|budget_?exceeded|budget has been exceeded|over ?budget|exceeded"
        r" ?budget|\bcredits\b|credit balance|payment[_ ]required|spend(?:ing)?[_ ]limit|欠费"
        r"|key limit exceeded|credit[ _]limit|in arrears|account (?:is )?(?:overdue|suspended|not active)|余额不足",
    ),
    (
        "region",
        (400, 403, 451),
        r"unsupported_country|(?:country|region|territor|location)\w*[^.]{0,40}(?:not |n't |un|restrict|block)"
        r"|not (?:available|supported|allowed) in (?:your|this) (?:country|region|location|territor)",
    ),
    (
        "key",
        (400, 403),
        r"(?:api|access|secret)[ _-]?key\b[^.]{0,60}(?:not valid|invalid|incorrect|expired|revoked|missing|required"
        r"|disabled|leaked|unknown)|(?:invalid|incorrect|missing|expired|unknown|no)[ _](?:api[ _-]?key|credential"
        r"|authentication)|api_key_invalid",
    ),
    (
        "model",
        (400, 401, 403, 404, 410, 422),
        r"model_not_\w+|model_decommissioned|invalid_model|unknown_model|deploymentnotfound|no models? loaded"
        r"|not a valid model|invalid model|no endpoints found|no allowed providers|no such model|unknown model"
        rf"|deployment{_NEAR}not (?:exist|found)|models?\b{_NEAR}(?:not[ _]found|not exist|n't exist|decommissioned"
        r"|deprecated|retired|no longer (?:available|supported|served|offered)|shut down|not available)"
        r"|access (?:to )?(?:the )?model",
    ),
    ("model", (500,), r"(?:could not|failed to|cannot) load model|requires more (?:system )?memory"),
    ("path", (400,), r"unexpected endpoint"),
    ("context", (429,), r"request too large"),  # for a minute's tokens: it never fits
    (
        "filter",
        (400, 403, 422, 451),
        r"content[_ ](?:filter|policy|management)|responsibleai|flagged|moderation|safety|prohibited|usage polic"
        r"|inappropriate|data_inspection|sensitive|(?:prompt|input|request) was (?:blocked|rejected)|敏感|不安全",
    ),
    (
        "key",
        (403,),
        r"\bkey\b|\btoken\b|permission|authori[sz]|authentic|credential|scope|subscription|account|access to th",
    ),
    (
        "context",
        (400, 413, 422, 500),
        r"context(?! (?:deadline|cancel))|too (?:long|large)|too many tokens|token limit|reduce (?:the|your)"
        r"|(?<!deadline )(?<!limit[ _])(?<!quota )(?<!capacity )exceed|maximum (?:length|number of tokens)"
        r"|tokens[^.]{0,40}must be|(?:input|prompt)[^.]{0,20}length",
    ),
)
_BY_STATUS = {401: "key", 402: "money", 407: "proxy", 413: "context", 451: "region"} | dict.fromkeys((404, 405), "path")
# Faults of the HTTP library before a request was sent, so that nothing can have been billed.
_NEVER_SENT = re.compile("Connect(Error|Timeout)|PoolTimeout|ProxyError|UnsupportedProtocol|LocalProtocolError")


def kind_of(error: Exception) -> str:
    """Return what a fault is: "money", "region", "key", "model", "path", "proxy", "certificate", "tls", "connection":
    these concern the whole run; "filter" and "context": this one text; "": unknown.
    """
    status, _, text = told(error)
    if not status and getattr(error, "body", None) is None:
        chain, cause = "", error
        while cause is not None:
            chain, cause = f"{chain} {type(cause).__name__}: {cause}", cause.__cause__ or cause.__context__
        if "CERTIFICATE_VERIFY" in chain:
            return "certificate"
        if re.search("WRONG_VERSION_NUMBER|RECORD_LAYER", chain, re.I):
            return "tls"
        if "ProxyError" in chain:
            return "proxy"
        if "UnsupportedProtocol" in chain or "InvalidURL" in chain:
            return "path"
        return "connection" if type(error).__name__ in ("APIConnectionError", "APITimeoutError") else ""
    page = text.startswith("a web page")  # a firewall's or a portal's: its words say nothing about key or model
    for kind, statuses, pattern in _KINDS:
        if (status or 400) in statuses and not page and (found := re.search(pattern, text, re.I)):
            # Gemini says "you exceeded your current quota" where a minute's requests are used up, and how long to wait.
            again = status == 429 and "current quota" in found[0].lower() and re.search("retry", text, re.I)
            return "" if again else kind
    return _BY_STATUS.get(status, "")


def never_sent(error: Exception) -> bool:
    """Whether a request never reached the endpoint (nothing listens, unknown host, a proxy in between refuses)."""
    return bool(_NEVER_SENT.fullmatch(type(error.__cause__).__name__))


def passes(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    status, kind = told(error)[0], kind_of(error)
    if not status:
        return kind in ("", "connection", "certificate", "tls", "proxy")
    return not kind and (status in (408, 409, 425, 429) or (status >= 500 and status != 501))


_REFUSAL = re.compile(
    r"unsupported|not (?:yet )?(?:support|permit|allow|enabled|available)|n't support|does not support|unrecogni[sz]ed"
    r"|unknown|unexpected|extra|invalid|cannot|can't|only|deprecated|incompatible|must|no longer",
    re.I,
)
_NAMED = {  # how the parameters are called that are not called by their name
    "stop": r"stop(?:[_ ]?sequences?)?",
    "frequency_penalty": r"frequency[_ ]?penalty|penalty is",
    "system": r"system (?:role|message|prompt|instruction)s?|'system'|\"system\"|developer instruction|roles must"
    r" alternate|only user\W.{0,20}assistant\W.{0,3}roles|messages?\W{1,3}0\W{1,3}role",
}


def refused(error: Exception, body: dict) -> list[str]:
    """Return the parameters of a request that a fault says the endpoint does not take; "system": a system message."""
    status, _, text = told(error)
    if status not in (400, 422, 500, 501) or kind_of(error) or not _REFUSAL.search(text):
        return []
    text = re.sub(r"([a-z])([A-Z])", r"\1_\2", text).lower()  # presencePenalty
    names = [*body, *body.get("extra_body", ())] if status < 500 else []
    names = [name for name in names if name not in ("model", "messages", "prompt", "stream", "extra_body")]
    names += ["system"] * any(m["role"] == "system" for m in body.get("messages", ()))
    found = [name for name in names if re.search(rf"(?<![a-z_])(?:{_NAMED.get(name, name)})(?![a-z_])", text)]
    param = getattr(error, "param", None)
    if param in found:
        return [param]
    return [name for name in found if not (name == "temperature" and "top_p" in found)]  # "only one of the two"


_EMBEDDED = "Unset BAIZE_TEACHER_URL and OPENAI_API_KEY to use the embedded teacher."
_SENTENCES = {  # what to tell a person about a fault that concerns the whole run
    "key": "{where} refused the key {said}. Check OPENAI_API_KEY: no quotes, no spaces, not revoked, and allowed to "
    "use this model. Without a key, unset it to use the embedded teacher.",
    "money": "{where} says that this key has no quota left {said}. Add credit at the provider, or ask your instructor "
    f"for more; or else: {_EMBEDDED} What was made so far is kept.",
    "region": f"{{where}} does not serve the place that this machine is in {{said}}. Try another. {_EMBEDDED}",
    "model": "{where} has no model {model!r} for this key {said}. {models}",
    "path": "{where} does not know this request {said}. Give BAIZE_TEACHER_URL up to and with the version, as in "
    "https://example.org/v1, and name the model in BAIZE_TEACHER_MODEL.",
    "proxy": "The proxy on the way to {where} refuses {said}. {proxies} Give it name and password, "
    f"http://name:password@host:port, or name this host in NO_PROXY. {_EMBEDDED}",
    "certificate": "{where} shows a certificate that this machine does not trust. If it is your own or your "
    "organisation's, set SSL_CERT_FILE to a file with that certificate before starting Jupyter.",
    "tls": "{where} does not speak https. Is its address http:// and not https://?",
    "connection": f"Nothing answers at {{where}}. Is the endpoint running, the address right? {{proxies}} {_EMBEDDED}",
}


@contextmanager
def explained(teacher):
    """Make a CourseError with the provider's words and the remedy of faults that concern the whole run; others pass."""
    import openai

    try:
        yield
    except (openai.APIError, Faulty) as error:
        kind, (status, words, _) = kind_of(error), told(error)
        if kind not in _SENTENCES:
            raise
        words = "" if words.startswith("Error code") else words if status else str(error.__cause__ or words)
        said = ": ".join([f"HTTP {status}"] * bool(status) + [f'"{words}"'] * bool(words))
        about = {"where": teacher.base_url, "model": teacher.model, "proxies": _proxies(), "said": f"({said})"}
        about["models"] = teacher.which_models() if kind == "model" else ""
        sentence = _SENTENCES[kind].format(**about)
        key = teacher.api_key or ""
        raise CourseError(sentence.replace(key, "…") if len(key) > 5 else sentence) from None


def _proxies():
    """A sentence on the proxies that are set."""
    names = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]
    return f"A proxy is set in {', '.join(sorted(names))}." if any(map(os.environ.get, names)) else "No proxy is set."


def proxy_unusable(error: Exception) -> CourseError:
    """Return the error for a proxy setting with which the HTTP library can't even begin."""
    extra = " For a socks proxy: write socks5://host:port, and `pip install socksio`."
    return CourseError(f"{_proxies()} It can't be used ({error}).{extra} Or unset it, or name the host in NO_PROXY.")


# ---- how long to wait ----

_AGAIN = re.compile(
    r"(?:(?:again|retry|resets?|available)\W+(?:in|after)(?: about)?|wait(?: for)?)\W+"
    r"(\d[\d.]*(?: ?[a-zµ]+(?:[\d.]+[a-zµ]+)*)?)(?![-:/\w])",
    re.IGNORECASE,
)


def asked_pause(headers, words: str = "") -> float | None:
    """Return the seconds that an endpoint asks us to wait; None where it does not say.

    headers : Retry-After (RFC 9110) and its variant in milliseconds, or the reset time of each limit that is used up,
              in seconds, as "6m0s", as a date, as a moment in ISO form or as seconds or milliseconds since 1970.
    words   : those of the fault: "Please try again in 7m12s".
    """
    if (milliseconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (seconds := _seconds(headers.get("retry-after"))) is not None:
        return seconds
    resets = []
    for name, value in headers.items():
        if "ratelimit" in name.lower() and "reset" in name.lower():
            left = headers.get(name.lower().replace("reset", "remaining"))
            if left is None or _seconds(left) == 0:
                resets.append(_seconds(value))
    if found := _AGAIN.search(words):
        resets.append(_seconds(found[1]))
    return max((seconds for seconds in resets if seconds is not None), default=None)


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _seconds(text):
    """Seconds from now, of a number, a duration ("1d2h", "6m0s", "20ms", "5 seconds") or a moment; else None."""
    text = (text or "").strip()
    try:
        number = float(text)
        if number >= 1.5e9:  # a moment: seconds, or milliseconds, since 1970
            number = number / (1000 if number >= 1.5e12 else 1) - time.time()
        return max(0.0, number) if number < float("inf") else None  # not nan either
    except ValueError:
        pass
    plain = re.sub(r" ?(ms|d|h|m|s)(?:ay|our|r|in|inute|ec|econd)s?\b", r"\1", text.lower().replace("milli", "m"))
    plain = re.sub(r"\s+", "", plain)
    if re.fullmatch(r"(?:\d+(?:\.\d*)?(?:ms|us|µs|ns|d|h|m|s))+", plain):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([a-zµ]+)", plain))
    try:
        moment = datetime.fromisoformat(text)
        return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - time.time())
    except ValueError:
        date = email.utils.parsedate_tz(text)
    try:
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):  # a year that there is not
        return None
