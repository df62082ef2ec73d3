"""Sliders for how a session draws its tokens.

Knows: ipywidgets and the four settings of a session. Does not know: what they do to a reply (sampling.py).
"""

import ipywidgets as widgets


class Dials:
    """Temperature, top-p, repetition penalty and length, of one session at a time; hidden until they are wanted.

    A change counts from the next reply on. `show` brings the sliders in step with a session. `switch` is the button
    that opens them: an Accordion would look alike, but its title can't be reached by keyboard.
    """

    def __init__(self):
        self._session = None
        self.temperature = Dial("Temperature", 0, 2, 0.05, "0 always takes the likeliest token")
        self.top_p = Dial("Top-p", 0.05, 1, 0.05, "Below 1 leaves out the tail of unlikely tokens")
        self.repetition = Dial("Repetition", 1, 2, 0.05, "Above 1 makes rarer what was just said")
        self.most = Dial("Max tokens", 1, 1024, 1, "Tokens of one reply at most")
        dials = [self.temperature, self.top_p, self.repetition, self.most]
        for dial in dials:
            dial.field.observe(self._set, "value")
        self.switch = widgets.ToggleButton(description="Settings", icon="sliders", layout={"width": "auto"})
        self.switch.tooltip = "Show or hide how this model draws its words"
        self.switch.observe(self._fold, "value")
        self.box = widgets.VBox([dial.box for dial in dials], layout={"display": "none"})

    def show(self, session):
        """Take the values of `session`; from now on a slider sets this one."""
        self._session = None
        self.temperature.value, self.top_p.value = session.temperature, session.top_p
        self.repetition.value, self.most.value = session.repetition_penalty, session.max_new_tokens
        self._session = session

    def _fold(self, _=None):
        """Show the sliders while the button is down."""
        self.box.layout.display = None if self.switch.value else "none"

    def _set(self, _):
        """A slider was moved: by a person, or by `show`, which needs no answer."""
        if self._session is not None:
            self._session.temperature, self._session.top_p = self.temperature.value, self.top_p.value
            self._session.repetition_penalty = self.repetition.value
            self._session.max_new_tokens = self.most.value


class Dial:
    """A slider, and a number field with its name and its value: a slider of ipywidgets has no name to be read out."""

    def __init__(self, name, low, high, step, tooltip):
        whole = isinstance(step, int)
        slider, field = (
            (widgets.IntSlider, widgets.BoundedIntText) if whole else (widgets.FloatSlider, widgets.BoundedFloatText)
        )
        self.slider = slider(low, min=low, max=high, step=step, readout=False, tooltip=tooltip)
        self.slider.layout = {"flex": "1 1 6em", "width": "auto", "min_width": "4em"}
        self.field = field(low, min=low, max=high, step=step, description=name, tooltip=tooltip)
        self.field.style.description_width, self.field.layout = "6.5em", {"width": "12em", "flex": "0 0 auto"}
        # The page multiplies steps and sends 0.9500000000000001 back: what counts is the field, where this is 0.95.
        widgets.dlink((self.slider, "value"), (self.field, "value"), lambda value: round(value, 6))
        widgets.dlink((self.field, "value"), (self.slider, "value"))
        self.box = widgets.HBox([self.field, self.slider], layout={"max_width": "32em"})

    @property
    def value(self):
        """The number that both show."""
        return self.field.value

    @value.setter
    def value(self, value):
        """A value that lies outside the ends moves the end, so that showing a setting never changes it."""
        for part in (self.slider, self.field):
            part.min, part.max = min(part.min, value), max(part.max, value)
        self.field.value = value
