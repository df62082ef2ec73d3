"""The look that all figures share: grey tones, one accent, and a second sign for whatever a colour says.

Knows: sizes, tones, hatches, line styles. Does not know: data.
Everything must still read when printed in greyscale, so series differ by hatch or by line and marker as well.
"""

from matplotlib.figure import Figure

ACCENT = "#c2410c"  # for the one thing a figure is about
DARK, MIDDLE, LIGHT, PALE = "0.25", "0.50", "0.75", "0.90"

_BARS = ((DARK, ""), (LIGHT, "///"), ("white", "..."), (MIDDLE, "xxx"), (PALE, "---"), ("white", "\\\\\\"))
_LINES = ((DARK, "-", "o"), (MIDDLE, "--", "s"), (DARK, ":", "^"), (MIDDLE, "-.", "D"))


def figure(width=7, height=3.2, columns=1, rows=1, **options):
    """(Figure, Axes) of `width` × `height` inches; with more columns or rows, (Figure, list of Axes, row by row).

    options go to `Figure.subplots` (sharey=True, width_ratios=[2, 1] …).
    The Figure does not belong to pyplot: nothing to close, nothing that a notebook would draw a second time.
    """
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=9)
    return (fig, axes[0]) if len(axes) == 1 else (fig, axes)


def label(ax, title="", x="", y=""):
    """Title (left, above) and axis labels in the course's sizes."""
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xlabel(x, fontsize=10)
    ax.set_ylabel(y, fontsize=10)


def bars(index):
    """Keyword arguments for the bars of series number `index`: `ax.bar(x, y, **bars(0))`."""
    tone, hatch = _BARS[index % len(_BARS)]
    return {"color": tone, "hatch": hatch, "edgecolor": DARK, "linewidth": 0.8}


def line(index):
    """Keyword arguments for line number `index`: `ax.plot(x, y, **line(0))`."""
    tone, dashes, marker = _LINES[index % len(_LINES)]
    return {"color": tone, "linestyle": dashes, "marker": marker, "markersize": 4, "linewidth": 1.5}


def legend(ax, **options):
    """A legend without a box, in the course's size. options go to `Axes.legend`."""
    return ax.legend(**{"frameon": False, "fontsize": 9, **options})
