"""The one kind of error a student should meet: a sentence that says what is wrong and what to do.

Knows: nothing of the course. Every other module raises `CourseError` where a person can mend the cause.
"""


class CourseError(Exception):
    """What was wrong, where, and the remedy, in one or two plain sentences.

    A notebook shows the sentence alone, without the traceback, since the remedy is not in the code.
    """

    def _render_traceback_(self):
        """IPython calls this instead of printing a traceback."""
        return [f"CourseError: {self}"]
