"""The look that all figures share, and `show`, which gives a figure its words.

Everything must still read when printed in greyscale, so series differ by hatch, or by line and marker, as well.
"""

import base64
import html
import io

from matplotlib.figure import Figure

ACCENT = "#c2410c"  # for the one thing a figure is about
DARK, MIDDLE, LIGHT, PALE = "0.25", "0.50", "0.75", "0.90"
_BARS = ((DARK, ""), (LIGHT, "///"), ("white", "..."), (MIDDLE, "xxx"), (PALE, "---"), ("white", "\\\\\\"))
_LINES = ((DARK, "-", "o"), (MIDDLE, "--", "s"), (DARK, ":", "^"), (MIDDLE, "-.", "D"))


def figure(width: float = 7, height: float = 3.2, columns: int = 1, rows: int = 1, **options):
    """Make a (Figure, Axes) of `width` × `height` inches; with more columns or rows, a list of Axes, row by row.

    options go to `Figure.subplots`. The Figure does not belong to pyplot: nothing that a notebook would draw twice.
    """
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=9)
    return (fig, axes[0]) if len(axes) == 1 else (fig, axes)


def label(ax, title: str = "", x: str = "", y: str = "") -> None:
    """Write the title (left, above) and the axes' names in the course's sizes."""
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xlabel(x, fontsize=10)
    ax.set_ylabel(y, fontsize=10)


def bars(index: int) -> dict:
    """Give keyword arguments for the bars of series number `index`: `ax.bar(x, y, **bars(0))`."""
    tone, hatch = _BARS[index % len(_BARS)]
    return {"color": tone, "hatch": hatch, "edgecolor": DARK, "linewidth": 0.8}


def line(index: int) -> dict:
    """Give keyword arguments for line number `index`: `ax.plot(x, y, **line(0))`."""
    tone, dashes, marker = _LINES[index % len(_LINES)]
    return {"color": tone, "linestyle": dashes, "marker": marker, "markersize": 4, "linewidth": 1.5}


def legend(ax, **options):
    """Add a legend without a box. options go to `Axes.legend`."""
    return ax.legend(**{"frameon": False, "fontsize": 9, **options})


def legend_below(fig: Figure, columns: int) -> None:
    """Add one legend for the whole figure, under it."""
    fig.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def png(fig: Figure) -> bytes:
    """Draw the figure as PNG, without the date or program version that would change the bytes from run to run."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, metadata={"Software": None})  # 7 inches: the width of a notebook cell
    return buffer.getvalue()


def bundle(fig: Figure, alt: str) -> dict:
    """Build what a notebook's output holds of a figure. alt: what it says, for those who cannot see it."""
    if not alt.strip():
        raise ValueError("a figure needs alt text: say what can be seen in it")
    source = base64.b64encode(png(fig)).decode("ascii")
    image = f'<img alt="{html.escape(alt)}" style="max-width:100%" src="data:image/png;base64,{source}">'
    return {"text/html": image, "text/plain": alt}


def show(fig: Figure, alt: str) -> None:
    """Show `fig` in the notebook, with its words."""
    from IPython.display import display

    display(bundle(fig, alt), raw=True)
