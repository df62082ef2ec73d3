"""A real loopback server that speaks the files and batches endpoints, as strict about request files as OpenAI's."""

import contextlib
import http.server
import json
import threading
from email import message_from_bytes

TAKES = {"custom_id", "method", "url", "body"}


class BatchServer:
    """The state of one endpoint. files: {id: bytes}; batches: {id: its object}.

    reply : function from a request line (a dictionary) to a list of result lines (dictionaries, or raw bytes).
    A batch is "in_progress" when it is first asked for and done the second time. Results come in reverse order;
    those with an error or a status other than 200 go to the error file.
    """

    def __init__(self, reply, max_lines=50_000, max_bytes=200_000_000):
        self.reply, self.max_lines, self.max_bytes = reply, max_lines, max_bytes
        self.files, self.batches = {}, {}

    def store(self, content):
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return {"id": name, "object": "file", "bytes": len(content), "created_at": 0} | {
            "filename": "x.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def create(self, asked):
        batch = {"id": f"batch_{len(self.batches)}", "object": "batch", "created_at": 0, "status": "validating"} | asked
        if fault := self.fault(asked):
            batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": "bad", "message": fault}]}}
        self.batches[batch["id"]] = batch
        return batch

    def fault(self, asked):
        """What OpenAI's endpoint would refuse, "" if nothing."""
        content = self.files[asked["input_file_id"]]
        lines = [json.loads(line) for line in content.splitlines()]
        if len(content) > self.max_bytes or len(lines) > self.max_lines:
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
        batch["request_counts"] = {"total": len(requests), "completed": len(output), "failed": len(errors)}


@contextlib.contextmanager
def speaking_batches(reply, **limits):
    """Yields (address with /v1, its BatchServer)."""
    state = BatchServer(reply, **limits)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/files":
                parts = parts_of(self.headers["Content-Type"], content)
                self.answer(state.store(parts["file"]) if parts["purpose"] == b"batch" else None)
            else:
                self.answer(state.create(json.loads(content)) if self.path == "/v1/batches" else None)

        def do_GET(self):
            _, _, kind, name, *rest = self.path.split("/")
            if kind == "files" and rest == ["content"]:
                self.answer(state.files[name])
            else:
                self.answer(state.retrieve(name) if kind == "batches" else None)

        def answer(self, found):
            body = found if isinstance(found, bytes) else json.dumps(found or {"error": "not found"}).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/octet-stream" if body is found else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Keep the test output quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", state
    finally:
        server.shutdown()
        server.server_close()


def parts_of(content_type, content):
    """{name: bytes} of a multipart upload."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + content)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.get_payload()
    }
