"""`make teacher`: serve one teacher to a room, or show what each student has used.

python -m baize_nb.classroom --students 30 --tokens 200000 --host 0.0.0.0
python -m baize_nb.classroom --usage
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys

from .. import common, teacher
from ..common import CourseError
from .accounts import Accounts, files, read
from .server import Room
from .upstream import Upstream


def options(arguments):
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m baize_nb.classroom", description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=30, help="keys that there must be at least (30)")
    parser.add_argument("--tokens", type=int, default=200_000, help="each student's budget, in tokens (200000)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: the whole network; default: this machine only")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--places", type=int, default=16, help="requests answered at the same time (16)")
    parser.add_argument("--usage", action="store_true", help="show what each student has used, and end")
    return parser.parse_args(arguments)


def main(arguments):
    """Serve until Ctrl-C; return the process's exit code."""
    asked = options(arguments)
    try:
        if not asked.usage:
            with Accounts(asked.students, asked.tokens) as accounts, teacher.from_env(asked.places) as model:
                asyncio.run(serve(model, accounts, asked))
        print(usage(asked.tokens))
        return 0
    except (CourseError, KeyboardInterrupt) as error:
        print(str(error) or "Stopped.", file=sys.stderr)
        return 1


async def serve(model, accounts, asked):
    """The endpoint, from its first word to the last answer."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C breaks the loop off, answers under way with it
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with model.client(max_retries=4, timeout=600) as client:
        room = Room(accounts, Upstream(model, client), asked.places)
        try:
            port = room.listen(asked.port, asked.host)
        except OSError as error:
            raise CourseError(
                f"Can't listen at {asked.host}, port {asked.port} ({error.strerror}). "
                "Name another: make teacher PORT=8766"
            ) from error
        print(hand_out(accounts, asked, port), flush=True)
        await stop.wait()
        print("\nStopping: answers under way are finished, nobody new is let in.", flush=True)
        await room.stop()


def hand_out(accounts, asked, port):
    """What the instructor reads and gives to the students. Keys are shown in the run that makes them, never again."""
    path = common.show(accounts.keys_path)
    lines = [f"{name}  {key}" for name, key in accounts.new]
    lines += [f"{len(lines)} new keys; all are in {path}" + (", which only you can read" if os.name != "nt" else "")]
    lines += ["", f"{asked.tokens:,} tokens for each student. They set, before Jupyter starts:"]
    lines += [f"    BAIZE_TEACHER_URL=http://{address(asked.host)}:{port}/v1", "    OPENAI_API_KEY=their key"]
    lines += ["", "Ctrl-C stops it. The same command goes on with the same keys and the same sums."]
    return "\n".join(lines)


def address(host):
    """How others reach this machine: its address on the network where it listens to all, else the host itself."""
    if host != "0.0.0.0":
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which way a packet would leave
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def usage(budget):
    """A table: what each student has used. Good while a server runs as well."""
    accounts = {account.name: account for account in read(*files()).values()}
    rows = [f"{a.name:<14}{a.answered:>9,}{a.spent:>12,}{a.spent / budget:>14.0%}" for _, a in sorted(accounts.items())]
    head = f"{'student':<14}{'answers':>9}{'tokens':>12}{'of ' + format(budget, ','):>14}"
    return "\n".join([head, *rows]) if rows else "There are no keys yet: make teacher"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
