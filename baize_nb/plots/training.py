"""Figures of notebook 04: tokens with their loss mask, LoRA's shapes, padding, loss curves.

Knows: how they look. Does not know: tokenizers, models, files; it is given tokens as strings and numbers.
"""

import html

from . import bundle, style

_READ = "color:#555;background:#fff"
_LEARNED = "color:#7c2d12;background:#ffedd5;text-decoration:underline"
_STOP = _LEARNED + ";font-weight:bold;border:2px solid #7c2d12"


def coloured_tokens(tokens, learned, stop):
    """HTML of a token sequence: what is learned is underlined on orange, the stop token is framed.

    tokens  : [str], one per token. learned : [bool], one per token. stop : how the stop token reads.
    Colour is never the only sign: underline and frame say the same in greyscale.
    """
    spans = []
    for token, learn in zip(tokens, learned, strict=True):
        look = _STOP if learn and token == stop else _LEARNED if learn else _READ
        shown = html.escape(token).replace("\n", "↵<br>")
        spans.append(f'<span style="{look};border-right:1px solid #ccc">{shown}</span>')
    legend = (
        f'<span style="{_LEARNED}">underlined</span> learned · <span style="{_STOP}">framed</span> learned: the stop '
        f'token · <span style="{_READ}">plain</span> only read · thin lines part the tokens'
    )
    body = f'<div style="font-family:monospace;line-height:1.8;background:#fff;padding:6px">{"".join(spans)}</div>'
    return body + f'<div style="color:#555;background:#fff;padding:6px">{legend}</div>'


def plain_tokens(tokens, learned):
    """The same as text, for where no HTML is shown: what is learned stands between ⟦ and ⟧."""
    text, inside = "", False
    for token, learn in zip(tokens, learned, strict=True):
        if learn != inside:
            text += "⟦" if learn else "⟧"
        text, inside = text + token, learn
    return text + "⟧" * inside


def show_tokens(tokens, learned, stop):
    """Show `coloured_tokens` in the notebook, with `plain_tokens` for those who cannot see it."""
    from IPython.display import display

    bundle = {"text/html": coloured_tokens(tokens, learned, stop), "text/plain": plain_tokens(tokens, learned)}
    display(bundle, raw=True)


def lora_shapes(outputs, inputs, rank):
    """W beside B and A, drawn to scale. W: outputs × inputs; B: outputs × rank; A: rank × inputs."""
    fig, ax = style.figure(6, 6 * outputs / (2.2 * inputs) + 0.1)
    gap = 0.12 * inputs
    boxes = [
        (0, 0, inputs, outputs, style.PALE, "", f"W  {outputs} × {inputs}\nfrozen: {outputs * inputs:,} numbers"),
        (inputs + gap, 0, rank, outputs, style.ACCENT, "///", ""),
        (inputs + gap + rank + gap / 3, outputs - rank, inputs, rank, style.ACCENT, "///", ""),
    ]
    for x, y, width, height, tone, hatch, words in boxes:
        ax.add_patch(_rectangle(x, y, width, height, tone, hatch))
        ax.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=10)
    left = inputs + gap + rank + gap / 3
    ax.text(inputs + gap / 2, outputs / 2, "+", ha="center", va="center", fontsize=16)
    ax.text(left, outputs / 2, f"B  {outputs} × {rank}, starts at zero", ha="left", va="center", fontsize=10)
    ax.text(left + inputs / 2, outputs - rank * 2, f"A  {rank} × {inputs}, random", ha="center", va="top", fontsize=10)
    trained = f"trained: {rank * (inputs + outputs):,} numbers"
    ax.text(left + inputs / 2, outputs * 0.12, trained, ha="center", va="center", fontsize=10)
    ax.set(xlim=(-2, left + inputs + 2), ylim=(-2, outputs + 2), aspect="equal")
    ax.axis("off")
    return fig


def _rectangle(x, y, width, height, tone, hatch):
    """A rectangle in the course's look."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=tone, hatch=hatch, edgecolor=style.DARK, linewidth=0.8)


def padding(lengths, to):
    """Each dialogue as a bar of its own tokens, with the padding that fills it up to `to` tokens.

    lengths : [int], tokens of each dialogue, none above `to`.
    """
    fig, ax = style.figure(7, 2.8)
    ordered = sorted(lengths, reverse=True)
    edges = [i - 0.5 for i in range(1, len(ordered) + 2)]
    ax.stairs(
        [to] * len(ordered), edges, fill=True, facecolor="white", edgecolor=style.LIGHT, hatch="///", label="padding"
    )
    ax.stairs(ordered, edges, fill=True, facecolor=style.DARK, label="tokens of the dialogue")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, to * 1.02)
    style.label(ax, f"Padded to {to} tokens", "dialogue, longest first", "tokens")
    style.legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)
    return fig


class LiveLoss:
    """The loss curve, drawn anew in its place while training goes on: `finetune.train(…, on_step=LiveLoss())`.

    What stands there at the end is what the notebook keeps.
    """

    def __init__(self):
        self.handle = None

    def __call__(self, seen):
        """seen : a `Seen` (finetune/watching.py)."""
        if not seen.heldout:
            return
        from IPython.display import display

        loss = seen.heldout[-1][1]
        words = f"Loss up to step {seen.step} of {seen.steps}. Held-out loss, the thick line: {loss:.2f}."
        shown = bundle(loss_curve(seen.history, seen.heldout), words)
        if self.handle is None:
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)


def loss_curve(history, heldout):
    """Training and held-out loss over steps.

    history, heldout : [(step, loss in nats per learned token)]. Before the first step there is no history.
    """
    fig, ax = style.figure(7, 3.2)
    quiet = {**style.line(1), "linewidth": 1.0, "markersize": 3}
    if history:
        ax.plot(*zip(*history, strict=True), label="training (one batch)", **quiet)
    strong = {**style.line(0), "color": style.ACCENT, "linewidth": 2.2, "markersize": 6}
    ax.plot(*zip(*heldout, strict=True), label="held-out (always the same dialogues)", **strong)
    for (step, loss), offset in ((heldout[0], 7), (heldout[-1], -15)):
        ax.annotate(
            f"{loss:.2f}", (step, loss), xytext=(0, offset), textcoords="offset points", ha="center", fontsize=9
        )
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(y=0.15)
    style.label(ax, "Loss while training", "optimizer step", "nats per learned token")
    style.legend(ax)
    return fig
