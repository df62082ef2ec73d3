"""Figures of notebook 03: what a corpus looks like from outside."""

from statistics import median

from matplotlib.ticker import MaxNLocator

from .style import ACCENT, DARK, bars, figure, label, legend, legend_below, line


def counts(found: dict, title: str, x: str = "dialogues"):
    """Draw horizontal bars with their numbers, the first entry on top. found : {name: number}."""
    fig, ax = figure(height=1.0 + 0.32 * max(1, len(found)))
    drawn = ax.barh([name.replace("_", " ") for name in found], list(found.values()), height=0.6, **bars(1))
    ax.bar_label(drawn, padding=3, fontsize=9, color=DARK)
    ax.invert_yaxis()
    ax.margins(x=0.08)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    label(ax, title, x)
    return fig


def turns(found: dict):
    """Draw how many dialogues have how many turns. found : {turns: dialogues}."""
    steps = range(1, max(found, default=1) + 1)
    return counts({f"{n} turn{'s' * (n > 1)}": found.get(n, 0) for n in steps}, "Turns per dialogue")


def removed(found: dict, kept: int):
    """Draw how many dialogues stayed, and how many each rule removed. found : {rule: dialogues}."""
    fig = counts({"kept": kept, **found}, "What cleaning did")
    fig.axes[0].patches[0].set(facecolor="white", hatch="")
    return fig


def hits(only: dict, shared: dict):
    """Draw how many dialogues each rule objects to.

    only, shared : {rule: dialogues} that no other rule met, that another one met as well; the same rules in both.
    """
    fig = counts({rule: only[rule] + shared[rule] for rule in only}, "What each rule finds")
    fig.set_figheight(fig.get_figheight() + 0.3)
    ax = fig.axes[0]
    ax.containers[0].set_label("another rule objects too")
    drawn = ax.barh([rule.replace("_", " ") for rule in only], list(only.values()), height=0.6, **bars(0))
    drawn.set_label("only this rule objects")
    if only:
        legend_below(fig, 2)
    return fig


def words_by_role(user: list, assistant: list):
    """Draw two histograms side by side on one scale: words per message. user, assistant : [words]."""
    edges = list(range(0, max([*user, *assistant, 1]) + 10, 10))
    fig, panels = figure(columns=2, height=2.8, sharex=True, sharey=True)
    for ax, role, lengths in zip(panels, ("user", "assistant"), (user, assistant), strict=True):
        ax.hist(lengths, bins=edges, **bars(1))
        if lengths:
            middle = median(lengths)
            ax.axvline(middle, color=ACCENT, linestyle="--", label=f"median {middle:g}")
            legend(ax, loc="upper right")
        label(ax, f"Words per {role} message", "words", "messages" if role == "user" else "")
        ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return fig


def by_turn(user: list, assistant: list):
    """Draw two lines: mean words per message, turn by turn. user, assistant : [mean words], as long."""
    fig, ax = figure(height=2.8)
    for i, (role, means) in enumerate((("assistant", assistant), ("user", user))):
        turns = range(1, len(means) + 1)
        ax.plot(turns, means, label=role, **line(i))
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    label(ax, "Length by turn", "turn", "words per message")
    if assistant:
        legend(ax)
    return fig


def growth(points: list, k: float, b: float):
    """Draw how the vocabulary grows, and Heaps' law k · wordsᵇ beside it. points : [(words read, distinct words)]."""
    fig, ax = figure(height=2.8)
    read = [x for x, _ in points]
    ax.plot(read, [y for _, y in points], label="this corpus", **line(0))
    ax.plot(read, [k * x**b for x in read], color=ACCENT, linestyle="--", label=f"{k:.1f} · words$^{{{b:.2f}}}$")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    label(ax, "New words keep coming", "words read", "different words")
    legend(ax)
    return fig


def repetition(shares: list, limit: float):
    """Draw a histogram of the repeated share of each message, with the `limit` of the rule. shares : [0 … 1]."""
    fig, ax = figure(height=2.6)
    ax.hist(shares, bins=[i / 20 for i in range(21)], **bars(1))
    ax.set_yscale("symlog", linthresh=1)  # most messages do not repeat at all; the few that do must stay visible
    ax.axvline(limit, color=ACCENT, linestyle="--", label=f"limit {limit:.0%}")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    label(ax, "How much of a message was said before", "share of word trigrams that repeat", "messages (log scale)")
    legend(ax)
    return fig
