"""Figures of notebooks 06 and 07: numbers with their intervals, a win rate against length, candidates."""

import math

from . import style


def intervals(models: dict, titles: dict):
    """Draw a small panel per measure, in each a line per model: the number as a mark, its interval as a bar.

    models : {model: {measure: (value, low, high)}}. titles : {measure: title of its panel}, which also sets the order.
    A mark is hollow where the interval holds zero: no difference is seen, or none at all was counted.
    """
    rows, names = math.ceil(len(titles) / 3), list(models)
    height = rows * (0.85 + 0.22 * len(models)) + 0.2
    fig, axes = style.figure(7.4, height, columns=min(3, len(titles)), rows=rows, sharey=True, squeeze=False)
    for ax in axes[len(titles) :]:
        ax.set_visible(False)
    for ax, (measure, title) in zip(axes, titles.items(), strict=False):
        for place, found in enumerate(models.values()):
            value, low, high = found[measure]
            ax.plot([low, high], [place, place], color=style.MIDDLE, linewidth=2.5, solid_capstyle="butt")
            inside = "white" if low <= 0 <= high else style.DARK
            ax.plot(value, place, style.line(place)["marker"], color=style.DARK, markerfacecolor=inside)
        lows, highs = zip(*(model[measure][1:] for model in models.values()), strict=True)
        if min(lows) < 0 < max(highs):
            ax.axvline(0, color=style.DARK, linewidth=1)
        elif min(lows) >= 0 and max(highs) <= 1:  # a share: from 0, and on to 1 where that is near
            reach = 1.0 if max(highs) > 0.5 else max(1.3 * max(highs), 0.05)
            ax.set_xlim(-0.04 * reach, 1.04 * reach)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.grid(axis="x", color=style.PALE)
        ax.set_title(title, fontsize=9)  # three side by side
    return fig


def calibration(groups: list):
    """Draw how often a judge is right over how sure it is. groups : [(mean confidence, moderation.Rate)]."""
    fig, ax = style.figure(4.2, 2.9)
    ax.plot([0.5, 1], [0.5, 1], color=style.MIDDLE, linestyle="--", label="as often as it is sure")
    ax.axhline(0.5, color=style.LIGHT, linewidth=0.8, label="a coin")
    for sure, right in groups:
        ax.plot([sure, sure], [right.low, right.high], color=style.MIDDLE, linewidth=2.5)
        ax.plot(sure, right.hits / right.n, "D", color=style.ACCENT)
    ax.set(xlim=(0.48, 1.02), ylim=(0, 1.04), xlabel="how sure the judge is", ylabel="how often it is right")
    ax.set_title("Calibration")
    ax.legend(loc="lower right")
    return fig


def against_length(longer: list, scores: list, intercept: float, slope: float, note: str):
    """Draw verdicts over the difference in length, and the fitted chance of a win, marked at no difference.

    longer : differences in words. scores : 1, ½ or 0. intercept, slope : see judging.logistic. note : for the title.
    """
    fig, ax = style.figure(7, 2.9)
    reach = math.ceil(max(5, *(abs(x) for x in longer)))
    xs = range(-reach, reach + 1)
    ys = [1 / (1 + math.exp(-intercept - slope * x)) for x in xs]
    ax.axvline(0, color=style.LIGHT, linewidth=0.8)
    ax.plot(xs, ys, color=style.DARK, label="fitted chance of a win")
    ax.plot(longer, scores, "|", color=style.MIDDLE, markersize=9, markeredgewidth=1.2, label="one pair")
    ax.plot(0, ys[reach], "D", color=style.ACCENT, markersize=7, label="at equal length")
    ax.set_yticks([0, 0.5, 1], ["loss", "tie", "win"])
    ax.set(title=f"What length has to do with it ({note})", xlabel="words more than the other reply")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def candidates(questions: list, floor: float):
    """Draw each question's scores in a column, the best questions last, the chosen one filled, a line at `floor`.

    questions : [([scores of its candidates], index of the chosen one or None)].
    """
    fig, ax = style.figure(7, 3.2)
    ax.axhline(floor, color=style.MIDDLE, linestyle="--", linewidth=1, label="below: left out")
    for column, (scores, chosen) in enumerate(sorted(questions, key=lambda question: max(question[0]))):
        others = [score for i, score in enumerate(scores) if i != chosen]
        label = {} if column else {"label": "sampled, not chosen"}
        ax.plot([column] * len(others), others, "o", color=style.DARK, mfc="none", markersize=3.5, **label)
        if chosen is not None:
            label = {} if "chosen" in ax.get_legend_handles_labels()[1] else {"label": "chosen"}
            ax.plot(column, scores[chosen], "D", color=style.ACCENT, markersize=5, **label)
    ax.set(title="What there was to choose from", xticks=[], xlabel="one column for each question")
    ax.set(ylabel="score, 1 to 100", ylim=(0, 105))
    fig.legend(loc="outside lower center", ncols=3)
    return fig
