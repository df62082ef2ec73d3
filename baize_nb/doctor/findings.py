"""What a check returns, how it is shown, and what becomes of a check that itself fails.

Knows: nothing of the machine or the course.
"""

import textwrap
from dataclasses import dataclass

from ..common import CourseError

WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    what   : its name, a word or two.
    value  : what was found there.
    remedy : what to do about it; empty where all is well.
    note   : what is good to know though nothing is wrong.
    """

    what: str
    value: str
    remedy: str = ""
    note: str = ""

    @property
    def ok(self):
        """Whether nothing must be mended here."""
        return not self.remedy

    def __str__(self):
        mark = "!" if self.remedy else "·" if self.note else "✓"
        line = f"{mark} {self.what:<15} {self.value}".rstrip()
        if more := self.remedy or self.note:
            line += "\n" + textwrap.fill(f"→ {more}", WIDTH, initial_indent="    ", subsequent_indent="      ")
        return line


def found(what, check):
    """The `Finding` of `check()`, or None where that does not concern this machine. A check that fails is one too."""
    try:
        return check()
    except CourseError as error:
        return Finding(what, "", str(error))
    except ImportError as error:
        return Finding(what, "could not be looked at", f"{error}. First mend what the lines above say.")
    except OSError as error:
        return Finding(what, "could not be looked at", f"{error.strerror or error}. Mend that and run this again.")
    except Exception as error:  # one look that fails in a way nobody thought of must not hide all the others
        return Finding(what, "could not be looked at", f"{type(error).__name__}: {error}. The other lines still hold.")
