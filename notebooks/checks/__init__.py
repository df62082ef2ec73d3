"""Self-checks behind the exercises: one module per notebook, one function per exercise.

A check calls the student's function, prints a tick or a hint, and never raises on a wrong answer, so that
Run All passes with every exercise unsolved.
"""


def report(name, problem, hints=()):
    """Print "✓ name" when `problem` is empty, else what is wrong and the next hint; return whether it passed.

    problem : "" or one sentence on what the student's answer did.
    hints   : from gentle to plain; each further call on the same exercise shows one more.
    """
    if not problem:
        print(f"✓ {name}: right.")
        _asked.pop(name, None)
        return True
    _asked[name] = _asked.get(name, 0) + 1
    print(f"… {name}: {problem}")
    for number, hint in enumerate(hints[: _asked[name]], start=1):
        print(f"   hint {number}: {hint}")
    return False


def attempt(function, *args, **kwargs):
    """(result, problem) of calling a student's function: an exception becomes a sentence, not a traceback."""
    try:
        return function(*args, **kwargs), ""
    except Exception as error:  # whatever a student's code can raise
        return None, f"your function stopped with {type(error).__name__}: {error}"


_asked = {}
