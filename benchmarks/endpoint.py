"""A loopback endpoint that answers every request after a fixed time, in a process of its own.

`python benchmarks/endpoint.py SECONDS` prints its address and serves until its standard input closes.
"""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from endpoints import Answer, completion, serving

REPLY = completion(
    "[Human] Why is the sea salty?\n[AI] Rivers carry salt into it, and only water leaves it again.\n"
    "[Human] And lakes?\n[AI] Most lakes have an outlet, so their salt goes on.\n",
    usage=(150, 60),
)


@contextlib.contextmanager
def slow_endpoint(seconds):
    """Start the process; yields its address."""
    command = [sys.executable, __file__, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


def main(seconds):
    async def answer(_path, _body):
        await asyncio.sleep(seconds)
        return Answer(REPLY)

    with serving(answer) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(float(sys.argv[1]))
