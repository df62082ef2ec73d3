"""Figures of notebook 07: the scores of each question's candidates, and differences with their intervals."""

from . import style


def candidates(questions: list, floor: float):
    """Draw each question's scores in a column, the best questions last, the chosen one filled, a line at `floor`.

    questions : [(scores of its candidates, None where unread; index of the chosen one or None)].
    """
    ordered = sorted(questions, key=lambda q: max((s for s in q[0] if s is not None), default=0))
    fig, ax = style.figure(7, 3.2)
    ax.axhline(floor, color=style.MIDDLE, linestyle="--", linewidth=1, label="below: left out")
    points = [(column, s, i == chosen) for column, (scores, chosen) in enumerate(ordered) for i, s in enumerate(scores)]
    for column, (scores, _) in enumerate(ordered):
        if known := [s for s in scores if s is not None]:
            ax.plot([column] * 2, [min(known), max(known)], color=style.LIGHT, linewidth=1.5, zorder=1)
    for chosen, marker, size, look in (
        (True, "D", 5, {"color": style.ACCENT, "label": "chosen"}),
        (False, "o", 3.5, {"color": style.DARK, "markerfacecolor": "none", "label": "sampled, not chosen"}),
    ):
        drawn = [(x, y) for x, y, is_chosen in points if is_chosen == chosen and y is not None]
        ax.plot([x for x, _ in drawn], [y for _, y in drawn], marker, markersize=size, **look)
    ax.set_xticks([])
    ax.set_ylim(0, 105)
    style.label(ax, "What there was to choose from", "one column for each question", "score, 1 to 100")
    style.legend_below(fig, 3)
    return fig


def differences(found: dict, better: dict):
    """Draw a row for each measure: the difference and its 95 % interval on a scale of its own, beside a line at zero.

    found  : {measure: (value, low, high)}. An interval that holds zero is drawn grey and hollow.
    better : {measure: 1 where more is better, -1 where less is, 0 where neither}: the better side is shaded.
    """
    fig, axes = style.figure(7, 0.62 * len(found) + 0.3, rows=len(found))
    axes = axes if isinstance(axes, list) else [axes]
    for ax, (name, (value, low, high)) in zip(axes, found.items(), strict=True):
        unsure = low <= 0 <= high
        tone = style.MIDDLE if unsure else style.ACCENT
        reach = 1.4 * max(abs(low), abs(high)) or 1
        if side := better[name]:
            ax.axvspan(0, side * reach, color=style.PALE, zorder=0)
            ax.text(side * 0.98 * reach, 0.7, "better", fontsize=8, va="top", ha="right" if side > 0 else "left")
        ax.axvline(0, color=style.DARK, linewidth=1)
        ax.plot([low, high], [0, 0], color=tone, linewidth=2.5)
        ax.plot([value], [0], "o", color=tone, markersize=7, markerfacecolor="white" if unsure else tone)
        ax.set(xlim=(-reach, reach), ylim=(-1, 1))
        ax.set_yticks([0], [name], fontsize=9)
        ax.tick_params(axis="x", labelsize=8)
        ax.spines["left"].set_visible(False)
    axes[0].set_title("After minus before; each row on its own scale", loc="left", fontsize=11)
    return fig
