"""Every figure of the course: one module per stage, and `show`, which gives each figure its words.

Knows: how a figure gets into a notebook. Does not know: what is drawn; see plots/seeds.py and its neighbours.
A figure function takes plain data (numbers, strings, lists, dicts) and returns a matplotlib Figure.
"""

import base64
import html
import io

DPI = 110  # 7 inches become 770 pixels: the width of a notebook cell


def png(fig):
    """The figure as PNG bytes, without the date or program version that would change them from run to run."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def show(fig, alt):
    """Show `fig` in the notebook with `alt`, the words for those who cannot see it.

    fig : a matplotlib Figure.
    alt : what the figure says, in one or two sentences; where images are not shown, this text is.
    """
    from IPython.display import display

    display(bundle(fig, alt), raw=True)


def bundle(fig, alt):
    """What a notebook's output holds of a figure and its words; arguments as in `show`."""
    if not alt.strip():
        raise ValueError("a figure needs alt text: say what can be seen in it")
    source = base64.b64encode(png(fig)).decode("ascii")
    image = f'<img alt="{html.escape(alt)}" style="max-width:100%" src="data:image/png;base64,{source}">'
    return {"text/html": image, "text/plain": alt}
