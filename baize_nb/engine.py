"""llama.cpp as a child process: an OpenAI-compatible endpoint for one GGUF file on a free loopback port.

Knows: how to start the engine, learn its address, and be rid of it. Does not know: self-chat or prompts.
A child, not a thread of the kernel: it can be ended at any moment, even in mid-reply, and it ends by itself when
its parent is gone, however the parent went (exit, exception, kernel restart, kill -9), since its standard input closes.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import weakref

from .common import CourseError

# OpenMP's threads spin while they wait for each other, by default for very long. Alone on the machine that does no
# harm, but beside any other busy program (a browser, a second notebook) inference becomes many times slower. A short
# spin costs nothing when alone and keeps most of the speed in company. Read by GNU's OpenMP, ignored by others.
WAITING = {"GOMP_SPINCOUNT": "1000"}
START_SECONDS = 120  # a cold disk and a busy machine; a calm one needs one or two


class Engine:
    """A running llama.cpp server. `url` is its OpenAI-compatible base address; `close()` ends it at once."""

    def __init__(self, gguf, name, slots=8, context=2048):
        """Serve the file `gguf` under the model name `name`.

        slots   : requests answered at the same time.
        context : tokens per slot, prompt and reply together.
        Raises CourseError where it does not start.
        """
        settings = {"gguf": str(gguf), "name": name, "slots": slots, "context": slots * context}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the child)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=WAITING | os.environ,
        )
        # Also where nobody closes it: at the end of Python, or when a cell that starts a teacher is run once more.
        self._finish = weakref.finalize(self, _end, self._process, self._log)
        self.url = self._address() + "/v1"

    def _address(self):
        """Wait for the one line in which the child says where it listens."""
        lines = queue.Queue()
        threading.Thread(target=_listen, args=(self._process.stdout, lines), daemon=True).start()
        try:
            address = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            address = None
        if address is None:
            self._process.kill()
            self._log.seek(0)
            tail = self._log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            self.close()
            raise CourseError(
                f"The embedded engine did not start: {tail[-1]} "
                "Close other programs if memory is short, and run the cell again."
            )
        return address

    def close(self):
        """End the engine and free its port and memory. May be called twice."""
        self._finish()


def _listen(stdout, lines):
    """Read the child's output to its end; None stands for a child that ended without an address."""
    for line in stdout:
        if line.startswith("http://"):
            lines.put(line.strip())
    lines.put(None)


def _end(process, log):
    """End the child and free its port and memory."""
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdin.close()
    log.close()


def _threads():
    """As many as there are cores; fewer where OMP_NUM_THREADS says so, as for PyTorch."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "2,1" is for nested loops
    return int(wanted) if wanted.isdigit() and int(wanted) else os.cpu_count() or 1


def _serve(gguf, name, slots, context):
    """In the child: serve until standard input closes. Ends by `os._exit`, since a busy server can't be unwound."""
    import signal

    import xllamacpp

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted cell must not take the engine with it
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.model_alias = [name] if isinstance(params.model_alias, list | set | tuple) else name
    params.hostnames = ["127.0.0.1"] if isinstance(params.hostnames, list) else "127.0.0.1"
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = context
    params.cpuparams.n_threads = _threads()
    params.verbosity = -1
    params.ui = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))
