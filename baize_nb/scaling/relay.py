"""An endpoint in front of an endpoint: passes every request on and remembers it, so that anybody can count. For
measuring on one machine, not for work: it keeps a digest of all that it saw."""

import contextlib
import hashlib
import threading
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Relay:
    """A relay as it runs: `url`, its address up to /v1, and the requests so far."""

    def __init__(self, url: str):
        self.url, self._seen = url, []

    def note(self, path: str, content: bytes) -> None:
        """Remember one request. Two are the same where address and body are the same, letter by letter."""
        self._seen.append(hashlib.sha256(path.encode() + b"\n" + content).hexdigest())

    @property
    def asked(self) -> int:
        return len(self._seen)

    @property
    def twice(self) -> int:
        """How many of them had arrived before. Each request of `collect` has a random seed of its own in its body."""
        return sum(n - 1 for n in Counter(self._seen).values())


@contextlib.contextmanager
def counting(url: str):
    """Run a relay to the endpoint at `url` (up to and with /v1) as long as the block lasts; yields the `Relay`."""
    # On this machine: a proxy that somebody has set has no business in between.
    opener = urllib.request.build_opener(*[urllib.request.ProxyHandler({})] * url.startswith("http://127.0.0.1"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            if len(content) < length:  # who asked was killed in mid-sentence: that is no request yet
                self.close_connection = True
                return
            relay.note(self.path, content)
            kept = {name: self.headers[name] for name in ("Content-Type", "Authorization") if self.headers.get(name)}
            request = urllib.request.Request(url.removesuffix("/v1") + self.path, content, kept)
            try:
                with opener.open(request, timeout=600) as reply:
                    status, kind, body = reply.status, reply.headers.get("Content-Type", ""), reply.read()
            except urllib.error.HTTPError as error:
                status, kind, body = error.code, error.headers.get("Content-Type", ""), error.read()
            except OSError as error:
                status, kind, body = 502, "text/plain", str(error).encode()
            with contextlib.suppress(ConnectionError):  # who asked is gone: killed, most likely
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # print nothing: who breaks off in mid-request was killed
    relay = Relay(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield relay
    finally:
        server.shutdown()
        server.server_close()
