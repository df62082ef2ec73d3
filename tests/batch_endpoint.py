"""A loopback endpoint that speaks OpenAI's Batch API: files up, a batch, files down. It checks as the real one."""

import contextlib
import json
from email import message_from_bytes

from endpoints import Answer, serving

TAKES = {"custom_id", "method", "url", "body"}


class BatchServer:
    """The state of one endpoint. files: {id: bytes}; batches: {id: its object}.

    reply : function from a request line (a dictionary) to a list of result lines (dictionaries, or raw bytes).
    A batch is "in_progress" when it is first asked for and done the second time. Results come in reverse order;
    those with an error or a status other than 200 go to the error file.
    """

    def __init__(self, reply, max_lines):
        self.reply, self.max_lines, self.files, self.batches = reply, max_lines, {}, {}

    async def __call__(self, path, asked):
        _, _, kind, *rest = path.split("/")
        if kind == "files" and not rest:
            content_type, content = asked
            parts = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + content).get_payload()
            named = {p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in parts}
            return Answer(self.store(named["file"]) if named["purpose"] == b"batch" else {}, 200)
        if kind == "files":
            return Answer(self.files[rest[0]], headers={"Content-Type": "application/octet-stream"})
        return Answer(self.retrieve(rest[0]) if rest else self.create(asked))

    def store(self, content):
        name = f"file-{len(self.files)}"
        self.files[name] = content
        about = {"id": name, "object": "file", "bytes": len(content), "created_at": 0}
        return about | {"filename": "x.jsonl", "purpose": "batch", "status": "processed"}

    def create(self, asked):
        batch = {"id": f"batch_{len(self.batches)}", "object": "batch", "created_at": 0, "status": "validating"} | asked
        if fault := self.fault(asked):
            batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": "bad", "message": fault}]}}
        self.batches[batch["id"]] = batch
        return batch

    def fault(self, asked):
        """What OpenAI's endpoint would refuse, "" if nothing."""
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        if len(lines) > self.max_lines:
            return "too large"
        if len({line["custom_id"] for line in lines}) < len(lines):
            return "duplicate custom_id"
        if len({line["body"]["model"] for line in lines}) > 1:
            return "more than one model"
        right = all(set(line) == TAKES and line["url"] == asked["endpoint"] for line in lines)
        return "" if right and asked["completion_window"] == "24h" else "invalid request"

    def retrieve(self, name):
        batch = self.batches[name]
        if batch["status"] == "validating":
            batch["status"] = "in_progress"
        elif batch["status"] == "in_progress":
            self.finish(batch)
        return batch

    def finish(self, batch):
        requests = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        output, errors = [], []
        for result in (r for request in reversed(requests) for r in self.reply(request)):
            bad = isinstance(result, dict) and (result.get("error") or result["response"]["status_code"] != 200)
            line = result if isinstance(result, bytes) else json.dumps(result).encode()
            (errors if bad else output).append(line + b"\n")
        for kind, lines in (("output", output), ("error", errors)):
            batch[f"{kind}_file_id"] = self.store(b"".join(lines))["id"] if lines else None
        batch["status"] = "completed"


@contextlib.contextmanager
def speaking_batches(reply, max_lines=50_000):
    """Yields (address with /v1, its BatchServer)."""
    state = BatchServer(reply, max_lines)
    with serving(state) as url:
        yield url, state
