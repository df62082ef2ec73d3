"""Figures of notebook 04: tokens with their loss mask, LoRA's shapes, padding, loss curves, compared settings."""

import html
from itertools import groupby

from matplotlib.patches import Rectangle

from . import style

_READ = "color:#555;background:#fff"
_LEARNED = "color:#7c2d12;background:#ffedd5;text-decoration:underline"
_STOP = _LEARNED + ";font-weight:bold;border:2px solid #7c2d12"


def tokens(texts: list[str], learned: list[bool], stop: str) -> dict:
    """Build what a notebook shows of tokens: learned ones underlined (or between ⟦ ⟧), the stop token framed."""
    spans = []
    for text, learn in zip(texts, learned, strict=True):
        look = _STOP if learn and text == stop else _LEARNED if learn else _READ
        shown = html.escape(text).replace("\n", "↵<br>")
        spans.append(f'<span style="{look};border-right:1px solid #ccc">{shown}</span>')
    shown = (
        f'<div style="font-family:monospace;line-height:1.8;background:#fff;padding:6px">{"".join(spans)}</div>'
        f'<div style="color:#555;background:#fff;padding:6px"><span style="{_LEARNED}">underlined</span> learned · '
        f'<span style="{_STOP}">framed</span> learned: the stop token · <span style="{_READ}">plain</span> only read · '
        "thin lines part the tokens</div>"
    )
    runs = groupby(zip(texts, learned, strict=True), key=lambda pair: pair[1])
    parts = [(learn, "".join(text for text, _ in run)) for learn, run in runs]
    return {"text/html": shown, "text/plain": "".join(f"⟦{text}⟧" if learn else text for learn, text in parts)}


def show_tokens(texts: list[str], learned: list[bool], stop: str) -> None:
    """Show `tokens` in the notebook."""
    from IPython.display import display

    display(tokens(texts, learned, stop), raw=True)


def lora_shapes(outputs: int, inputs: int, rank: int):
    """Draw W beside B and A, to scale. W: outputs × inputs; B: outputs × rank; A: rank × inputs."""
    fig, ax = style.figure(6.4, 6.4 * outputs / (2.3 * inputs) + 0.1)
    gap = 0.22 * inputs
    left = inputs + gap + rank + inputs / 25  # of A
    for corner, width, height, tone, hatch in (
        ((0, 0), inputs, outputs, style.PALE, ""),  # W
        ((inputs + gap, 0), rank, outputs, style.ACCENT, "///"),  # B
        ((left, outputs - rank), inputs, rank, style.ACCENT, "///"),  # A
    ):
        look = {"facecolor": tone, "hatch": hatch, "edgecolor": style.DARK, "linewidth": 0.8}
        ax.add_patch(Rectangle(corner, width, height, **look))
    for x, y, words, size, side, edge in (
        (
            inputs / 2,
            outputs / 2,
            f"W  {outputs} × {inputs}\nfrozen: {outputs * inputs:,} numbers",
            10,
            "center",
            "center",
        ),
        (inputs + gap / 2, outputs / 2, "+ α/r ·", 12, "center", "center"),
        (left, outputs / 2, f"B  {outputs} × {rank}, starts at zero", 10, "left", "center"),
        (left + inputs / 2, outputs - rank * 2, f"A  {rank} × {inputs}, random", 10, "center", "top"),
        (left + inputs / 2, outputs * 0.12, f"trained: {rank * (inputs + outputs):,} numbers", 10, "center", "center"),
    ):
        ax.text(x, y, words, fontsize=size, ha=side, va=edge)
    ax.set(xlim=(-2, left + inputs + 2), ylim=(-2, outputs + 2), aspect="equal")
    ax.axis("off")
    return fig


def padding(lengths: list[int], to: int):
    """Draw each dialogue as a bar of its own tokens, with the padding that fills it up to `to` tokens."""
    fig, ax = style.figure(7, 2.8)
    ordered = sorted(lengths, reverse=True)
    edges = [i - 0.5 for i in range(1, len(ordered) + 2)]
    empty = {"facecolor": "white", "edgecolor": style.LIGHT, "hatch": "///"}
    ax.stairs([to] * len(ordered), edges, fill=True, label="padding", **empty)
    ax.stairs(ordered, edges, fill=True, facecolor=style.DARK, label="tokens of the dialogue")
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, to * 1.02))
    style.label(ax, f"Padded to {to} tokens", "dialogue, longest first", "tokens")
    style.legend_below(fig, 2)
    return fig


class LiveLoss:
    """The loss curve, drawn anew in its place while training goes on: `finetune.train(…, on_step=LiveLoss())`."""

    def __init__(self):
        self.handle = None

    def __call__(self, seen):
        """Draw what training has `Seen` so far. What stands there at the end is what the notebook keeps."""
        if not seen.heldout:
            return
        from IPython.display import display

        loss = seen.heldout[-1][1]
        words = f"Loss up to step {seen.step} of {seen.steps}. Held-out loss, the thick line: {loss:.2f}."
        shown = style.bundle(loss_curve(seen.history, seen.heldout), words)
        if self.handle is None:
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)


def loss_curve(history: list, heldout: list):
    """Draw training and held-out loss over steps. history, heldout : [(step, nats per learned token)]."""
    fig, ax = style.figure(7, 3.2)
    if history:
        quiet = {**style.line(1), "linewidth": 1.0, "markersize": 3}
        ax.plot(*zip(*history, strict=True), label="training (one batch)", **quiet)
    strong = {**style.line(0), "color": style.ACCENT, "linewidth": 2.2, "markersize": 6}
    ax.plot(*zip(*heldout, strict=True), label="held-out (always the same dialogues)", **strong)
    # Beside the ends of the line, where nothing is drawn.
    for point, offset, side in ((heldout[0], -8, "right"), (heldout[-1], 8, "left")):
        ax.annotate(f"{point[1]:.2f}", point, (offset, 0), textcoords="offset points", ha=side, va="center", fontsize=9)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(x=0.09, y=0.15)
    style.label(ax, "Loss while training", "optimizer step", "nats per learned token")
    style.legend_below(fig, 2)
    return fig


def settings(rows: list[dict]):
    """Draw each setting's held-out loss, a mark per seed, a bar at the mean; the range of "baseline" is shaded."""
    losses = {}
    for row in rows:
        losses.setdefault(row["setting"], []).append(row["heldout_loss"])
    fig, ax = style.figure(7, 0.36 * len(losses) + 0.9)
    ax.axvspan(min(losses["baseline"]), max(losses["baseline"]), color=style.PALE, label="range of the baseline")
    seed = {"color": style.DARK, "markersize": 4, "markerfacecolor": "none", "linestyle": "none", "marker": "o"}
    middle = {"color": style.ACCENT, "markersize": 14, "markeredgewidth": 2.5, "linestyle": "none", "marker": "|"}
    means = [sum(found) / len(found) for found in losses.values()]
    ax.plot(means, range(len(losses)), label="mean", **middle)
    points = [(loss, place) for place, found in enumerate(losses.values()) for loss in found]
    ax.plot(*zip(*points, strict=True), label="one seed", **seed)
    ax.set_yticks(range(len(losses)), list(losses))
    ax.set_ylim(len(losses) - 0.5, -0.5)
    style.label(ax, "Held-out loss, by setting", "nats per learned token (← better)")
    style.legend_below(fig, 3)
    return fig


def kept(losses: list, shares: list):
    """Draw shares of the update, a direction each, and losses : [(directions kept, held-out loss)]."""
    fig, (left, right) = style.figure(7, 2.8, columns=2)
    left.bar(range(1, len(shares) + 1), [100 * share for share in shares], **style.bars(1))
    style.label(left, "The update's size", "direction, largest first", "share of the squared size, %")
    right.plot(*zip(*losses, strict=True), **style.line(0))
    for x, y in (losses[0], losses[-1]):
        right.annotate(f"{y:.2f}", (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    right.set_xticks([x for x, _ in losses])
    right.margins(0.1, 0.2)
    style.label(right, "With only the largest", "directions kept", "held-out loss")
    return fig
