"""Figures of notebook 04: tokens with their loss mask, LoRA's shapes, padding, loss curves, compared settings."""

import html
from itertools import groupby

from . import style
from .evaluation import intervals

_READ = "color:#555;background:#fff"
_LEARNED = "color:#7c2d12;background:#ffedd5;text-decoration:underline"
_STOP = _LEARNED + ";font-weight:bold;border:2px solid #7c2d12"
_TRIMMED = _READ + ";border:2px dashed #7c2d12"
_KEY = (
    f'<span style="{_LEARNED}">underlined</span> learned · <span style="{_STOP}">framed</span> learned: the stop token '
    f'· <span style="{_TRIMMED}">dashed</span> not learned: the stop of a trimmed answer · '
    f'<span style="{_READ}">plain</span> only read · thin lines part the tokens'
)


def tokens(texts: list[str], learned: list[bool], stop: str) -> dict:
    """Build what a notebook shows of tokens: learned ones underlined (or between ⟦ ⟧), stop tokens framed."""
    spans = []
    for text, learn in zip(texts, learned, strict=True):
        look = _LEARNED if learn else _READ
        if text == stop:
            look = _STOP if learn else _TRIMMED
        shown = html.escape(text).replace("\n", "↵<br>")
        spans.append(f'<span style="{look};border-right:1px solid #ccc">{shown}</span>')
    shown = (
        f'<div style="font-family:monospace;line-height:1.8;background:#fff;padding:6px">{"".join(spans)}</div>'
        f'<div style="color:#555;background:#fff;padding:6px">{_KEY}</div>'
    )
    plain = ""
    for learn, run in groupby(zip(texts, learned, strict=True), key=lambda pair: pair[1]):
        text = "".join(text for text, _ in run)
        plain += f"⟦{text}⟧" if learn else text
    return {"text/html": shown, "text/plain": plain}


def show_tokens(texts: list[str], learned: list[bool], stop: str) -> None:
    """Show `tokens` in the notebook."""
    from IPython.display import display

    display(tokens(texts, learned, stop), raw=True)


def lora_shapes(outputs: int, inputs: int, rank: int):
    """Draw W beside B and A, to scale. W: outputs × inputs; B: outputs × rank; A: rank × inputs."""
    fig, ax = style.figure(6.4, 6.4 * outputs / (2.3 * inputs) + 0.1)
    gap = 0.22 * inputs
    left = inputs + gap + rank + inputs / 25  # of A
    ax.bar(
        (0, inputs + gap, left),  # W, B, A
        (outputs, outputs, rank),
        (inputs, rank, inputs),
        (0, 0, outputs - rank),
        align="edge",
        color=(style.PALE, style.ACCENT, style.ACCENT),
        hatch=("", "///", "///"),
        edgecolor=style.DARK,
    )
    middle = {"ha": "center", "va": "center"}
    ax.text(inputs / 2, outputs / 2, f"W  {outputs} × {inputs}\nfrozen: {outputs * inputs:,} numbers", **middle)
    ax.text(inputs + gap / 2, outputs / 2, "+ α/r ·", fontsize=12, **middle)
    ax.text(left, outputs / 2, f"B  {outputs} × {rank}, starts at zero", va="center")
    ax.text(left + inputs / 2, outputs - rank * 2, f"A  {rank} × {inputs}, random", ha="center", va="top")
    ax.text(left + inputs / 2, outputs * 0.12, f"trained: {rank * (inputs + outputs):,} numbers", **middle)
    ax.set(xlim=(-2, left + inputs + 2), ylim=(-2, outputs + 2), aspect="equal")
    ax.axis("off")
    return fig


def padding(lengths: list[int], to: int):
    """Draw each dialogue as a bar of its own tokens, with the padding that fills it up to `to` tokens."""
    fig, ax = style.figure(7, 2.8)
    places = range(1, len(lengths) + 1)
    ax.bar(places, to, 1, label="padding", facecolor="white", edgecolor=style.LIGHT, hatch="///", linewidth=0)
    ax.bar(places, sorted(lengths, reverse=True), 1, label="tokens of the dialogue", color=style.DARK)
    ax.set(xlim=(0.5, len(lengths) + 0.5), ylim=(0, to * 1.02))
    ax.set(title=f"Padded to {to} tokens", xlabel="dialogue, longest first", ylabel="tokens")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


class LiveLoss:
    """The loss curve, drawn anew in its place while training goes on: `finetune.train(…, on_step=LiveLoss())`."""

    def __init__(self):
        self.handle = None

    def __call__(self, run):
        """Draw a finetune `Run` so far. What stands there at the end is what the notebook keeps."""
        if not run.heldout:
            return
        from IPython.display import display

        loss = run.heldout[-1][1]
        words = f"Loss up to step {run.step} of {run.steps}. Held-out loss, the thick line: {loss:.2f}."
        shown = style.bundle(loss_curve(run.history, run.heldout), words)
        if self.handle is None:
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)


def loss_curve(history: list, heldout: list):
    """Draw training and held-out loss over steps. history, heldout : [(step, nats per learned token)]."""
    fig, ax = style.figure(7, 3.2)
    quiet = {**style.line(1), "linewidth": 1.0, "markersize": 3}
    ax.plot([x for x, _ in history], [y for _, y in history], label="training (one batch)", **quiet)
    strong = {**style.line(0), "color": style.ACCENT, "linewidth": 2.2, "markersize": 6}
    ax.plot(*zip(*heldout, strict=True), label="held-out (always the same dialogues)", **strong)
    # Beside the ends of the line, where nothing is drawn.
    for point, offset, side in ((heldout[0], -8, "right"), (heldout[-1], 8, "left")):
        ax.annotate(f"{point[1]:.2f}", point, (offset, 0), textcoords="offset points", ha=side, va="center", fontsize=9)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(x=0.09, y=0.15)
    ax.set(title="Loss while training", xlabel="optimizer step", ylabel="nats per learned token")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def settings(rows: list[dict]):
    """Draw each setting's held-out loss: the mean of its seeds as a mark, their range as a bar."""
    losses = {}
    for row in rows:
        losses.setdefault(row["setting"], []).append(row["heldout_loss"])
    found = {name: {"": (sum(seen) / len(seen), min(seen), max(seen))} for name, seen in losses.items()}
    return intervals(found, {"": "Held-out loss, nats per learned token (← better): mean and range of the seeds"})


def kept(losses: list, shares: list):
    """Draw shares of the update, a direction each, and losses : [(directions kept, held-out loss)]."""
    fig, (left, right) = style.figure(7, 2.8, columns=2)
    left.bar(range(1, len(shares) + 1), [100 * share for share in shares], **style.bars(1))
    left.set(title="The update's size", xlabel="direction, largest first", ylabel="share of the squared size, %")
    right.plot(*zip(*losses, strict=True), **style.line(0))
    for x, y in (losses[0], losses[-1]):
        right.annotate(f"{y:.2f}", (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    right.set_xticks([x for x, _ in losses])
    right.margins(0.1, 0.2)
    right.set(title="With only the largest", xlabel="directions kept", ylabel="held-out loss")
    return fig
