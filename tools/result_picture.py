"""Draw README's picture: three questions to the base model, in the Baize format and in its own, and to the tuned model.

    python tools/result_picture.py        writes notebooks/images/result.png from the shipped adapter

All replies are greedy (the likeliest token each time) and of 70 tokens at most, where … stands for the rest.
"""

import tempfile
import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from baize_nb import common, finetune, models, teacher
from baize_nb.chat import EndpointSession
from baize_nb.teacher import Engine

PICTURE = Path(__file__).resolve().parent.parent / "notebooks" / "images" / "result.png"
QUESTIONS = ("What are the symptoms of asthma?", "How do I reverse a list in Python?", "How can I sleep better?")
HEADS = (
    "question",
    "before tuning,\nin the Baize format",
    "before tuning,\nin its own format",
    "after tuning,\nin the Baize format",
)
WIDTHS = (16, 34, 42, 42)  # characters of a line in each column


def replies(engine, tokenizer):
    endpoint = teacher.Teacher(engine.url, "model", engine=engine)
    session = EndpointSession(endpoint, tokenizer, max_new_tokens=70, temperature=0)
    said = []
    for question in QUESTIONS:
        session.clear()
        said.append(session.answer(question).strip() + (" …" if session.last.end == "limit" else ""))
    return said


def rows():
    """[(question, reply in each format …)] of the embedded model and of the shipped adapter on it."""
    tokenizer = models.load_tokenizer()
    base = Engine(models.gguf(), "model", slots=1)
    before, own = replies(base, tokenizer), replies(base, None)
    base.close()
    with tempfile.TemporaryDirectory() as folder:
        tuned = Engine(finetune.export_gguf(common.DATA / "adapter", out=Path(folder) / "baize.gguf"), "model", slots=1)
        after = replies(tuned, tokenizer)
        tuned.close()
    return list(zip(QUESTIONS, before, own, after, strict=True))


def wrapped(text, width):
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, width) or [""])


def draw(found):
    """A table as a Figure: bold heads, lines between the rows, readable in greyscale."""
    cells = [[wrapped(text, width) for text, width in zip(row, WIDTHS, strict=True)] for row in found]
    heights = [max(cell.count("\n") + 1 for cell in row) + 1 for row in cells]
    total = sum(heights) + 3
    figure = Figure(figsize=(12, 0.165 * total), dpi=110, facecolor="white")
    axes = figure.add_axes((0.01, 0, 0.98, 1), xlim=(0, sum(WIDTHS)), ylim=(total, 0))
    axes.axis("off")
    starts = [sum(WIDTHS[:i]) for i in range(len(WIDTHS))]
    for x, head in zip(starts, HEADS, strict=True):
        axes.text(x, 0.2, head, va="top", weight="bold", size=10)
    y = 3
    for row, height in zip(cells, heights, strict=True):
        axes.axhline(y, color="0.7", linewidth=0.8)
        for x, cell in zip(starts, row, strict=True):
            axes.text(x, y + 0.5, cell, va="top", size=9, weight="bold" if x == 0 else "normal", parse_math=False)
        y += height
    return figure


if __name__ == "__main__":
    draw(rows()).savefig(PICTURE)
    print(common.show(PICTURE))
