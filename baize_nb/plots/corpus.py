"""Figures of notebook 03: what a corpus looks like from outside."""

from statistics import median

from matplotlib.ticker import MaxNLocator

from .style import ACCENT, bars, figure, line


def counts(found: dict, title: str, x: str = "dialogues"):
    """Draw horizontal bars with their numbers, the first entry on top. found : {name: number}."""
    fig, ax = figure(height=1.0 + 0.32 * max(1, len(found)))
    names = [name.replace("_", " ") for name in found]
    ax.bar_label(ax.barh(names, list(found.values()), height=0.6, **bars(1)), padding=3)
    ax.invert_yaxis()
    ax.margins(x=0.08)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(title=title, xlabel=x)
    return fig


def words_by_role(user: list, assistant: list):
    """Draw two histograms side by side on one scale: words per message. user, assistant : [words]."""
    fig, panels = figure(columns=2, height=2.8, sharex=True, sharey=True)
    edges = range(0, max([*user, *assistant]) + 10, 10)
    for ax, role, lengths in zip(panels, ("user", "assistant"), (user, assistant), strict=True):
        ax.hist(lengths, bins=edges, **bars(1))
        middle = median(lengths)
        ax.axvline(middle, color=ACCENT, linestyle="--", label=f"median {middle:g}")
        ax.set(title=f"Words per {role} message", xlabel="words")
        ax.legend(loc="upper right")
    panels[0].set_ylabel("messages")
    return fig


def by_turn(user: list, assistant: list):
    """Draw two lines: mean words per message, turn by turn. user, assistant : [mean words], as long."""
    fig, ax = figure(height=2.8)
    turns = range(1, len(user) + 1)
    ax.plot(turns, assistant, label="assistant", **line(0))
    ax.plot(turns, user, label="user", **line(1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(title="Length by turn", xlabel="turn", ylabel="words per message", ylim=(0, None))
    ax.legend()
    return fig


def growth(points: list, k: float, b: float):
    """Draw how the vocabulary grows, and Heaps' law k · wordsᵇ beside it. points : [(words read, distinct words)]."""
    fig, ax = figure(height=2.8)
    read, seen = zip(*points, strict=True)
    ax.plot(read, seen, label="this corpus", **line(0))
    ax.plot(read, [k * x**b for x in read], color=ACCENT, linestyle="--", label=f"{k:.1f} · words$^{{{b:.2f}}}$")
    ax.set(title="New words keep coming", xlabel="words read", ylabel="different words", ylim=(0, None))
    ax.legend()
    return fig


def repetition(shares: list, limit: float):
    """Draw a histogram of the repeated share of each message, with the `limit` of the rule. shares : [0 … 1]."""
    fig, ax = figure(height=2.6)
    ax.hist(shares, bins=[i / 20 for i in range(21)], **bars(1))
    ax.set_yscale("symlog", linthresh=1)  # most messages do not repeat at all; the few that do must stay visible
    ax.axvline(limit, color=ACCENT, linestyle="--", label=f"limit {limit:.0%}")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.yaxis.set_major_formatter("{x:.0f}")
    ax.set(xlabel="share of word trigrams that repeat", ylabel="messages (log scale)")
    ax.set_title("How much of a message was said before")
    ax.legend()
    return fig
