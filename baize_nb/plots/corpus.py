"""Figures of notebook 03: what a corpus looks like from outside. Plain numbers in, a Figure out.

Does not know: dialogues. See corpus.counting for where the numbers come from.
"""

from statistics import median

from matplotlib.ticker import MaxNLocator

from .style import ACCENT, DARK, bars, figure, label, legend, line


def turns(counts):
    """Lying bars: how many dialogues have how many turns. counts : {turns: dialogues}."""
    steps = range(1, max(counts, default=1) + 1)
    named = {f"{n} turn{'s' * (n > 1)}": counts.get(n, 0) for n in steps}
    return _lying(named, "Turns per dialogue", "dialogues")


def ends(counts):
    """Lying bars: why dialogues stop. counts : {reason: dialogues}."""
    return _lying(counts, "Why dialogues end", "dialogues")


def removed(counts, kept):
    """Lying bars: dialogues that stayed, and those that each rule removed. counts : {rule: dialogues}."""
    fig = _lying({"kept": kept, **counts}, "What cleaning did", "dialogues")
    fig.axes[0].patches[0].set(facecolor="white", hatch="")
    return fig


def hits(only, shared):
    """Lying bars: dialogues that each rule objects to. only, shared : {rule: dialogues} that no other rule met, that
    another one met as well; both with the same rules."""
    fig = _lying({rule: only[rule] + shared[rule] for rule in only}, "What each rule finds", "dialogues")
    fig.set_figheight(fig.get_figheight() + 0.3)
    ax = fig.axes[0]
    ax.containers[0].set_label("another rule objects too")
    drawn = ax.barh([rule.replace("_", " ") for rule in only], list(only.values()), height=0.6, **bars(0))
    drawn.set_label("only this rule objects")
    if only:
        fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return fig


def words_by_role(user, assistant, width=10):
    """Two histograms side by side on one scale: words per message. user, assistant : [words]; width : of a bar."""
    longest = max([*user, *assistant, 1])
    edges = list(range(0, longest + width, width))
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


def by_turn(user, assistant):
    """Two lines: mean words per message in the first turn, the second … user, assistant : [mean words], as long."""
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


def growth(points, k, b):
    """How the vocabulary grows, and Heaps' law k · wordsᵇ beside it. points : [(words read, distinct words)]."""
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


def first_words(counts):
    """Lying bars: with which words questions begin. counts : {words: questions}."""
    return _lying(counts, "How questions begin", "questions")


def repetition(shares, limit):
    """Histogram of the repeated share of each message, with the `limit` of the rule. shares : [0 … 1]."""
    fig, ax = figure(height=2.6)
    ax.hist(shares, bins=[i / 20 for i in range(21)], **bars(1))
    ax.set_yscale("symlog", linthresh=1)  # most messages do not repeat at all; the few that do must stay visible
    ax.axvline(limit, color=ACCENT, linestyle="--", label=f"limit {limit:.0%}")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    label(ax, "How much of a message was said before", "share of word trigrams that repeat", "messages (log scale)")
    legend(ax)
    return fig


def _lying(counts, title, x):
    """Horizontal bars with their numbers, the first entry on top."""
    fig, ax = figure(height=1.0 + 0.32 * max(1, len(counts)))
    names = [name.replace("_", " ") for name in counts]
    drawn = ax.barh(names, list(counts.values()), height=0.6, **bars(1))
    ax.bar_label(drawn, padding=3, fontsize=9, color=DARK)
    ax.invert_yaxis()
    ax.margins(x=0.08)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    label(ax, title, x)
    return fig
