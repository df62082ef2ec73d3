"""Every request of a corpus on disk, before it is sent and after it is answered, so that nothing is paid for twice.

Knows: what was asked for whom, what came back, what it cost. Does not know: how to ask.

    {"sent": 7, "id": …, "worst": [prompt, completion]}         before the request leaves
    {"got": 7, "id": …, "text": …, "finish": …, "bill": […]}    its answer
    {"got": 7, "id": …, "fault": …, "bill": […]}                or what went wrong
    {"forget": id}                                              these answers gave no dialogue; ask afresh
    {"spent": [prompt, completion]}                             sum of what an earlier run paid

A request that was sent and never answered, because the process was killed, counts with its worst case.
"""

import json
from collections import defaultdict

from .. import common
from ..common import Journal
from .asking import describe
from .budget import Tokens


def log_path(corpus):
    """Where the log of a corpus file lies: `<name>.requests.jsonl` beside it."""
    return corpus.with_name(f"{corpus.stem}.requests.jsonl")


class RequestLog(Journal):
    """The log of one corpus, open for appending. `spent`: Tokens of earlier runs; `replies`: {id: [answers]}."""

    def __init__(self, corpus, finished):
        """finished : ids that need no answers any more; the log is cut down to the others when it is opened."""
        super().__init__(log_path(corpus))
        self.finished = finished
        self.spent, self.replies = Tokens(), {}
        self._number = 0

    def __enter__(self):
        super().__enter__()
        try:
            self._read()
            self._shorten()
        except BaseException:
            super().__exit__()
            raise
        return self

    def sent(self, id, worst):
        """Note that a request is about to leave; return its number."""
        self._number += 1
        self.write({"sent": self._number, "id": id, "worst": worst})
        return self._number

    def answered(self, number, id, reply):
        """Note the answer to a request."""
        self.write(_answer(number, id, reply))

    def failed(self, number, id, bill, error):
        """Note that a request failed, and what it may have cost all the same."""
        self.write({"got": number, "id": id, "fault": describe(error), "bill": bill})

    def forget(self, id):
        """Do not use the answers for `id` again: they led to no dialogue."""
        self.write({"forget": id})

    def _read(self):
        """Add up what was spent and collect the answers that are still of use."""
        replies, under_way = defaultdict(list), {}
        for line in self.records():
            if "sent" in line:
                under_way[line["sent"]] = Tokens(*line["worst"])
            elif "got" in line:
                under_way.pop(line["got"], None)
                self.spent = self.spent.plus(Tokens(*line["bill"]))
                if "text" in line and line["id"] not in self.finished:
                    usage = Tokens(*line["bill"])
                    replies[line["id"]].append({"text": line["text"], "finish": line["finish"], "usage": usage})
            elif "forget" in line:
                replies.pop(line["forget"], None)
            else:
                self.spent = self.spent.plus(Tokens(*line["spent"]))
        for worst in under_way.values():
            self.spent = self.spent.plus(worst)
        self.replies = dict(replies)

    def _shorten(self):
        """Rewrite the log, whole or not at all: the sum of what was paid, and the answers still of use."""
        open_bills, lines = Tokens(), []
        for id, replies in self.replies.items():
            for reply in replies:
                open_bills = open_bills.plus(reply["usage"])
                lines.append(_answer(0, id, reply))  # no request of this run has that number
        lines.insert(0, {"spent": self.spent.minus(open_bills)})
        self._file.close()
        common.write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        self._file = self.path.open("ab", buffering=0)


def _answer(number, id, reply):
    return {"got": number, "id": id, "text": reply["text"], "finish": reply["finish"], "bill": reply["usage"]}
