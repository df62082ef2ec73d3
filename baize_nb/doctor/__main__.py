"""`python -m baize_nb.doctor`: settings and report in a terminal. Exit code 1 where something must be mended."""

import sys

from ..common import CourseError
from . import report, settings


def main(arguments):
    """Print both; return the process's exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console without UTF-8 shows ? for a mark and goes on
    if arguments not in ([], ["--ask"]):
        print("Use: python -m baize_nb.doctor [--ask]", file=sys.stderr)
        return 2
    try:
        settings()
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    return 0 if report(ask=bool(arguments)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
