"""Figures of notebook 04's comparisons: settings over seeds, and a model with only a part of its update.

Knows: how they look. Does not know: training, files; it is given numbers.
"""

from . import style


def settings(rows):
    """Held-out loss of each setting, a mark per seed and a bar at their mean; the baseline's range is shaded.

    rows : [{"setting", "heldout_loss", …}], as ablations.read gives them; one setting is called "baseline".
    """
    losses = {}
    for row in rows:
        losses.setdefault(row["setting"], []).append(row["heldout_loss"])
    fig, ax = style.figure(7, 0.36 * len(losses) + 0.9)
    ax.axvspan(min(losses["baseline"]), max(losses["baseline"]), color=style.PALE, label="range of the baseline")
    for place, found in enumerate(losses.values()):
        ax.plot([sum(found) / len(found)], [place], "|", color=style.ACCENT, markersize=16, markeredgewidth=2.5)
        ax.plot(found, [place] * len(found), "o", color=style.DARK, markersize=4, markerfacecolor="none")
    ax.plot([], [], "o", color=style.DARK, markersize=4, markerfacecolor="none", label="one seed")
    ax.plot([], [], "|", color=style.ACCENT, markersize=12, markeredgewidth=2.5, label="mean")
    ax.set_yticks(range(len(losses)), list(losses))
    ax.set_ylim(len(losses) - 0.5, -0.5)
    style.label(ax, "Held-out loss, by setting", "nats per learned token (further left is better)")
    style.legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=3)
    return fig


def kept(losses, shares):
    """Left: the share of the update in each direction. Right: held-out loss with only the first directions kept.

    losses : [(directions kept, loss)], 0 for the base model. shares : [share], one per direction, largest first.
    """
    fig, (left, right) = style.figure(7, 2.8, columns=2)
    left.bar(range(1, len(shares) + 1), [100 * share for share in shares], **style.bars(1))
    style.label(left, "The update's size", "direction, largest first", "share of the squared size, %")
    right.plot(*zip(*losses, strict=True), **style.line(0))
    for place, (x, y) in enumerate(losses):
        if place in (0, len(losses) - 1):
            right.annotate(f"{y:.2f}", (x, y), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
    right.set_xticks([x for x, _ in losses])
    right.margins(0.1, 0.2)
    style.label(right, "With only the largest", "directions kept", "held-out loss")
    return fig
