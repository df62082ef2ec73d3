"""Figures of notebook 01: what is in a pool of seeds, and what a sample keeps of it."""

from . import style


def topics(counts: dict):
    """Draw the seven most frequent topics of each source, a panel each. counts : {source: {topic: seeds}}."""
    rows = -(-len(counts) // 2)
    fig, axes = style.figure(7, 1.9 * rows, columns=2, rows=rows, sharex=True)
    for ax in axes[len(counts) :]:
        ax.set_visible(False)
    for ax, (source, found) in zip(axes, counts.items(), strict=False):
        best = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:7][::-1]
        ax.barh(*zip(*best, strict=True), color=style.LIGHT)
        ax.set_title(f"{source}: {len(found)} topics")
        ax.tick_params(labelsize=8, labelbottom=True)
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes[-2:]:
        ax.set_xlabel("seeds", fontsize=9)
    return fig


def lengths(words: dict):
    """Draw how long the seeds of each source are: a box holds the middle half. words : {source: [words]}."""
    fig, ax = style.figure(7, 0.6 + 0.5 * len(words))
    look = {"boxprops": {"facecolor": style.PALE}, "medianprops": {"color": style.ACCENT, "linewidth": 2.5}}
    ax.boxplot(words.values(), orientation="horizontal", widths=0.55, patch_artist=True, **look)
    ax.set_yticklabels(list(words))
    ax.invert_yaxis()
    ax.set(title="Length of the seeds", xlabel="words", xlim=(0, None))
    return fig


def shares(counts: dict):
    """Draw what each way of sampling took. counts : {way: {source: seeds}}, the same sources for each way."""
    fig, ax = style.figure(7, 3)
    width = 0.8 / len(counts)
    for number, (way, found) in enumerate(counts.items()):
        places = [place + (number - (len(counts) - 1) / 2) * width for place in range(len(found))]
        ax.bar_label(ax.bar(places, found.values(), width, label=way, **style.bars(number)), padding=2)
    ax.set_xticks(range(len(found)), list(found))
    ax.margins(y=0.12)
    ax.set(title="Who gets into the sample", ylabel="seeds")
    ax.legend(ncols=len(counts), loc="lower right", bbox_to_anchor=(1, 1))
    return fig


def overlap(names: list[str], matrix: list[list[float]]):
    """Draw a square of shares, a row and a column for each source; the darker, the more in common."""
    fig, ax = style.figure(7, 0.8 + 0.55 * len(names))
    most = max(map(max, matrix))
    ax.imshow(matrix, cmap="Greys", vmin=0, vmax=most, aspect="auto")
    for row, values in enumerate(matrix):
        for column, value in enumerate(values):
            tone = "white" if value > most / 2 else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=tone)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0, labelsize=8)
    ax.set(title="Vocabulary in common", xlabel="words of one half of the source", ylabel="words of another half")
    return fig
