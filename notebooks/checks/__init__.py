"""Self-checks behind the exercises: one module per notebook, one function per exercise.

A check calls the student's function, prints a tick or a hint, and never raises on a wrong answer, so that Run All
passes with every exercise unsolved. The first hint fits the mistake, the others say more and more about the way.
"""

import copy
import functools
import math
from numbers import Real


class Wrong(Exception):
    """What the student's answer did, in a sentence, and the hint that fits the mistake."""

    def __init__(self, problem, hint):
        super().__init__(problem)
        self.problem, self.hint = problem, hint


def call(function, *arguments, hint):
    """The result of the student's function; whatever it raises becomes a sentence, with this hint."""
    try:
        return function(*copy.deepcopy(arguments))
    except Exception as error:
        raise Wrong(f"your function stopped with {type(error).__name__}: {error}", hint) from error


def same(got, right):
    """Whether a result is right, numbers and tensors up to rounding."""
    if isinstance(right, float):
        return isinstance(got, Real) and math.isclose(got, right, abs_tol=1e-6)
    if hasattr(right, "allclose"):
        return type(got) is type(right) and got.shape == right.shape and right.allclose(got, atol=1e-4)
    try:
        return not isinstance(got, bool) and bool(got == right)
    except Exception:  # an array compared with a list
        return False


def expect(got, right, given, hint, known=()):
    """Raise Wrong unless `got` is right. given: in words. known: (value, hint) of known mistakes."""
    if same(got, right):
        return
    hint = next((fitting for value, fitting in known if same(got, value)), hint)
    if got is None:
        raise Wrong("it returns None so far: the place where you write is still empty.", hint)
    shape = getattr(got, "shape", ())
    shown = f"a tensor of shape {tuple(shape)}" if shape else repr(got)
    wanted = f"other numbers of shape {tuple(right.shape)} are" if hasattr(right, "allclose") else f"{right!r} is"
    raise Wrong(f"for {given} it gave {shown}, and {wanted} right.", hint)


def table(answer, rows):
    """Go through rows of (arguments, right result, hint, (value, hint) of known mistakes …)."""
    for arguments, right, hint, *known in rows:
        got = call(answer, *arguments, hint=hint)
        expect(got, right, ", ".join(map(repr, arguments)), hint, known)


def refuse(said, *mistakes):
    """Raise Wrong with the hint of the first of these mistakes that was made: (whether it was, hint), …"""
    for made, hint in mistakes:
        if made:
            raise Wrong(said, hint)


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
