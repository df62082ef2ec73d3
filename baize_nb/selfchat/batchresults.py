"""What stands in the result files of a batch, one line at a time, whatever is wrong with it.

Knows: the lines of output and error files. Does not know: seeds, transcripts, or where results go (batch.py).
Built in notebook 02.
"""

import json

from openai.types.chat import ChatCompletion

from .. import common
from ..common import CourseError
from .asking import Faulty, read_reply

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}
_REFUSED = NO_USAGE | {"requests": 1, "batch": 1}  # an answer that is an error costs nothing


def result_lines(paths):
    """("file:line", line in bytes, result, fault) of every line that is not empty.

    result is a dictionary with a custom_id and fault "", or result is None and fault says why.
    Raises CourseError for a file that is not there.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield f"{common.show(path)}:{number}", line.strip(), *_result(line)
        except OSError as error:
            raise CourseError(
                f"Cannot read {common.show(path)} ({error.strerror}). Download the batch's files first."
            ) from error


def _result(line):
    """(result, fault) of one line."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None, "not JSON, or torn off"
    if not isinstance(record, dict) or not isinstance(record.get("custom_id"), str):
        return None, "no custom_id"
    return record, ""


def read_result(result, worst):
    """(text, finish reason, usage) of a result; for one without a reply (None, what is wrong, usage).

    worst : Tokens, what the request may have cost, for endpoints that send no usage.
    usage : {"prompt_tokens", "completion_tokens", "requests": 1, "batch": 1}; the last says "at the price of a batch".
    """
    if fault := _fault(result):
        return None, fault, _REFUSED
    try:
        reply = ChatCompletion.construct(**result["response"]["body"])
        read = read_reply(reply, worst)
        refusal = getattr(getattr(reply.choices[0], "message", None), "refusal", None)
    except Faulty as error:
        return None, str(error), _usage(error.bill)
    except (TypeError, ValueError, AttributeError) as error:
        return None, f"the result holds no reply ({type(error).__name__})", _REFUSED
    if refusal and not read["text"]:
        return None, f"refusal: {_line(refusal)}", _usage(read["usage"])
    return read["text"], _line(read["finish"]), _usage(read["usage"])


def _fault(result):
    """Why a request was not answered at all, "" if it was: an `error`, or a status that is not 200."""
    response = result.get("response")
    if error := result.get("error"):
        return f"batch error: {_words(error)}"
    if not isinstance(response, dict) or not isinstance(response.get("body"), dict):
        return "the result holds no reply"
    if response.get("status_code") != 200:
        return f"HTTP {response.get('status_code')}: {_words(response['body'].get('error'))}"
    return ""


def _words(error):
    """An error object in one line: its code and message."""
    parts = [error.get("code"), error.get("message")] if isinstance(error, dict) else [error]
    return _line(": ".join(str(part) for part in parts if part)) or "no reason given"


def _line(text):
    return " ".join(str(text).split())[:500]


def _usage(bill):
    return {"prompt_tokens": bill.prompt, "completion_tokens": bill.completion, "requests": 1, "batch": 1}
