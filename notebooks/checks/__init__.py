"""Self-checks behind the exercises: one module per notebook, one function per exercise.

A check calls the student's function, prints a tick or a hint, and never raises on a wrong answer, so that Run All
passes with every exercise unsolved. The first hint fits the mistake, the others say more and more about the way.
"""

import functools


class Wrong(Exception):
    """What the student's answer did, in a sentence, and the hint that fits the mistake."""

    def __init__(self, problem, hint):
        super().__init__(problem)
        self.problem, self.hint = problem, hint


def call(function, *args, hint):
    """The result of the student's function; whatever it raises becomes a sentence, with this hint."""
    try:
        return function(*args)
    except Exception as error:
        raise Wrong(f"your function stopped with {type(error).__name__}: {error}", hint) from error


def exercise(*hints):
    """Make a check of a function that raises Wrong: it prints "✓" or what is wrong, and returns whether all is right.

    hints : for everybody who got the fitting one, from gentle to plain; each further call shows one more.
    """

    def decorate(function):
        asked = 0

        @functools.wraps(function)
        def check(answer, *args):
            nonlocal asked
            try:
                function(answer, *args)
            except Wrong as wrong:
                asked += 1
                print(f"… {function.__name__}: {wrong.problem}")
                for number, hint in enumerate((wrong.hint, *hints)[:asked], start=1):
                    print(f"   hint {number}: {hint}")
                return False
            print(f"✓ {function.__name__}: right.")
            asked = 0
            return True

        return check

    return decorate
