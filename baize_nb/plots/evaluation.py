"""Figures of notebook 06: numbers with their intervals, model by model, and a win rate against length."""

import math

from . import style


def intervals(models: dict, titles: dict):
    """Draw a small panel per measure, in each a line per model: the number as a mark, its interval as a bar.

    models : {model: {measure: (value, low, high)}}. titles : {measure: title of its panel}, which also sets the order.
    Each model has a mark of its own, each panel a scale of its own: a share of 2 % would be a dot at the edge of 0 … 1.
    """
    rows = math.ceil(len(titles) / 3)
    fig, axes = style.figure(7.4, rows * (0.85 + 0.22 * len(models)) + 0.2, columns=3, rows=rows, sharey=True)
    for ax, (measure, title) in zip(axes, titles.items(), strict=False):
        for place, found in enumerate(models.values()):
            value, low, high = found[measure]
            ax.plot([low, high], [place, place], color=style.MIDDLE, linewidth=2.5, solid_capstyle="butt")
            ax.plot([value], [place], style.line(place)["marker"], color=style.DARK, markersize=6)
        ax.set_yticks(range(len(models)), list(models))
        ax.set_ylim(len(models) - 0.5, -0.5)
        found = [end for model in models.values() for end in model[measure][1:]]
        if min(found) >= 0 and max(found) <= 1:  # a share: from 0, and on to 1 where that is near
            reach = 1.0 if max(found) > 0.5 else max(1.3 * max(found), 0.05)
            ax.set_xlim(-0.04 * reach, 1.04 * reach)
        ax.grid(axis="x", color=style.PALE)
        style.label(ax, title)
        ax.set_title(title, loc="left", fontsize=9)  # three side by side
    for ax in axes[len(titles) :]:
        ax.set_visible(False)
    return fig


def against_length(longer: list, scores: list, intercept: float, slope: float, note: str = ""):
    """Draw verdicts over the difference in length, and the fitted chance of a win, marked at no difference.

    longer : differences in words. scores : 1, ½ or 0. intercept, slope : of the log-odds, see judging.logistic.
    note   : stands in the title: "simulated", where no judge was asked.
    """
    fig, ax = style.figure(7, 2.9)
    reach = max(5, *(abs(x) for x in longer)) * 1.05
    xs = [reach * (i / 100 - 1) for i in range(201)]
    ys = [1 / (1 + math.exp(-intercept - slope * x)) for x in xs]
    ax.axvline(0, color=style.LIGHT, linewidth=0.8)
    ax.plot(xs, ys, color=style.DARK, label="fitted chance of a win")
    ax.plot(longer, scores, "|", color=style.MIDDLE, markersize=9, markeredgewidth=1.2, label="one pair")
    ax.plot([0], [ys[100]], "D", color=style.ACCENT, markersize=7, label="at equal length")
    ax.set_ylim(-0.08, 1.08)
    ax.set_yticks([0, 0.5, 1], ["loss", "tie", "win"])
    title = "What length has to do with it" + (f" ({note})" if note else "")
    style.label(ax, title, "words more than the other reply")
    style.legend_below(fig, 3)
    return fig
