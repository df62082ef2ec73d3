"""The look that all figures share, and `show`, which gives a figure its words.

Everything must still read when printed in greyscale, so series differ by hatch, or by line and marker, as well.
"""

import base64
import html
import io

import matplotlib
from matplotlib.figure import Figure

matplotlib.rc("figure.constrained_layout", use=True)
matplotlib.rc("axes.spines", top=False, right=False)
matplotlib.rc("axes", titlelocation="left", titlesize=11)
matplotlib.rc(("xtick", "ytick"), labelsize=9)
matplotlib.rc("legend", frameon=False, fontsize=9)
ACCENT = "#c2410c"  # for the one thing a figure is about
DARK, MIDDLE, LIGHT, PALE = "0.25", "0.50", "0.75", "0.90"
_BARS = ((DARK, ""), (LIGHT, "///"), ("white", "..."), (MIDDLE, "xxx"))
_LINES = ((DARK, "-", "o"), (MIDDLE, "--", "s"), (DARK, ":", "^"), (MIDDLE, "-.", "D"))


def figure(width: float = 7, height: float = 3.2, columns: int = 1, rows: int = 1, squeeze=True, **options):
    """Make a (Figure, Axes) of `width` × `height` inches; with more columns or rows, a list of Axes, row by row.

    squeeze : False: a list in any case. options go to `Figure.subplots`. The Figure does not belong to pyplot, which
    would draw it twice in a notebook.
    """
    fig = Figure(figsize=(width, height))
    axes = fig.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    return (fig, axes[0]) if squeeze and len(axes) == 1 else (fig, axes)


def bars(index: int) -> dict:
    """Give keyword arguments for the bars of series number `index`: `ax.bar(x, y, **bars(0))`."""
    tone, hatch = _BARS[index % len(_BARS)]
    return {"color": tone, "hatch": hatch, "edgecolor": DARK, "linewidth": 0.8}


def line(index: int) -> dict:
    """Give keyword arguments for line number `index`: `ax.plot(x, y, **line(0))`."""
    tone, dashes, marker = _LINES[index % len(_LINES)]
    return {"color": tone, "linestyle": dashes, "marker": marker, "markersize": 4, "linewidth": 1.5}


def png(fig: Figure) -> bytes:
    """Draw the figure as PNG, without the program version that would change the bytes."""
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
