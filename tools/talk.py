"""Talk to the model in a terminal, `make chat`: the one that you tuned in this profile, else the shipped one."""

import sys

from baize_nb import common, models, profiles
from baize_nb.chat import ChatSession
from baize_nb.common import CourseError


def main() -> int:
    """Answer line by line until an empty line or Ctrl-D; Ctrl-C stops a reply. Return the process's exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    try:
        model, tokenizer = models.load(profiles.current().base, adapter=common.find("adapter"))
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    session = ChatSession(model, tokenizer, temperature=0.7, repetition_penalty=1.1)
    print("It is small and often wrong: ask nothing that matters. Ctrl-C stops a reply, an empty line ends the chat.")
    while True:
        try:
            question = input("\nYou:   ").strip()
        except (EOFError, KeyboardInterrupt):
            question = ""
        if not question:
            print()
            return 0
        print("Baize: ", end="", flush=True)
        try:
            for piece in session.stream(question):
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            session.stop()
        except CourseError as error:
            print(error, end="")
        print()


if __name__ == "__main__":
    sys.exit(main())
