"""What is seen of a training run while it goes on: a line or a bar, a callback for a live figure, and its collapse.

Knows: Trainer's log, clocks, terminals. Does not know: models, files, figures.
"""

import math
import sys
import time
from dataclasses import dataclass

from tqdm import tqdm
from transformers import TrainerCallback

from ..common import CourseError, duration


@dataclass(frozen=True)
class Seen:
    """How far a run is; `train` gives it to its `on_step`.

    step, steps : optimizer steps done, and in all.
    history     : [(step, training loss)]. heldout : [(step, held-out loss)]; in nats per learned token.
    speed, left : trained tokens per second, without padding, and estimated seconds to the end; None at the start.
    """

    step: int
    steps: int
    history: list
    heldout: list
    speed: float | None = None
    left: float | None = None


def series(state, name):
    """[(step, value)] of everything that Trainer logged under `name`, resumed runs included."""
    return sorted({entry["step"]: entry[name] for entry in state.log_history if name in entry}.items())


class Watching(TrainerCallback):
    """A bar on a terminal, lines of text elsewhere; stops a run whose loss is no number.

    A notebook keeps its output, so there the lines stay: a bar that is drawn over itself would be kept as rubbish.
    """

    def __init__(self, on_step=None):
        self.on_step, self.bar, self.evaluated, self.first = on_step, None, -1, None

    def on_train_begin(self, args, state, control, **kwargs):
        self.start = time.monotonic()
        self.main = state.is_world_process_zero
        if self.main and sys.stderr.isatty():
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True)

    def on_step_begin(self, args, state, control, **kwargs):
        """The clock for tokens per second starts with the first step, not with the look at the held-out loss."""
        if self.first is None:
            self.first = time.monotonic(), state.global_step, state.num_input_tokens_seen

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar:
            self.bar.update()

    def on_evaluate(self, args, state, control, **kwargs):
        self.evaluated = state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name, words in (("loss", "training loss"), ("eval_loss", "held-out loss")):
            if name not in logs:
                continue
            if not math.isfinite(float(logs[name])):
                raise CourseError(
                    f"The {words} at step {state.global_step} is {logs[name]}: training has come apart. "
                    "Lower learning_rate in the profile, or use dtype float32."
                )
            if self.main:
                self._say(words, float(logs[name]), self._seen(state))

    def close(self):
        """Take the bar away; also after an error."""
        if self.bar:
            self.bar.close()

    def _seen(self, state):
        speed = left = None
        if self.first and state.global_step > self.first[1]:
            begin, step, tokens = self.first
            seconds = time.monotonic() - begin
            speed = (state.num_input_tokens_seen - tokens) / seconds
            left = seconds / (state.global_step - step) * (state.max_steps - state.global_step)
        return Seen(state.global_step, state.max_steps, series(state, "loss"), series(state, "eval_loss"), speed, left)

    def _say(self, words, loss, seen):
        at = f"step {seen.step:3} of {seen.steps} · {words} {loss:.3f} · {duration(time.monotonic() - self.start)}"
        speed = "" if seen.speed is None else f"{seen.speed:.0f} tokens/s"
        if self.bar and words == "training loss":
            self.bar.set_postfix_str(f"loss {loss:.3f}, {speed}")
        elif self.bar:
            self.bar.write(at)
        else:
            print(" · ".join([at, speed, f"{duration(seen.left)} left"] if speed else [at]), flush=True)
        if self.on_step:
            self.on_step(seen)
