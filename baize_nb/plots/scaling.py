"""Figures of notebook 08: what a corpus costs as it grows, and which limit bites."""

from . import style


def cost(plans: list):
    """Draw hours and dollars of each endpoint over the number of dialogues, of `Plan`s in rising order."""
    fig, (left, right) = style.figure(7.6, 3.6, columns=2)
    hours, dollars = {}, {}
    for plan in plans:
        name = plan.endpoint if plan.usd else f"{plan.endpoint} (no dollars)"
        hours.setdefault(name, []).append((plan.dialogues, plan.longest))
        dollars.setdefault(name, []).append((plan.dialogues, plan.usd or None))
    _rising(left, hours, {"an hour": 1, "a day": 24, "a month": 730, "a year": 8760})
    style.legend_below(fig, 2)
    _rising(right, dollars, {})
    left.set(title="Time", ylabel="hours")
    right.set(title="Price", ylabel="dollars")
    return fig


def limits(plans: list):
    """Draw the hours that each limit alone would take in `Plan`s of one size; the one that decides is marked."""
    rows = [(plan, limit, hours) for plan in plans for limit, hours in plan.hours.items()]
    fig, ax = style.figure(7, 0.34 * len(rows) + 1)
    for place, (plan, limit, hours) in enumerate(rows):
        # Dots: on a logarithmic scale a bar has no beginning, so its length says nothing.
        look = {"color": style.MIDDLE, "marker": "o", "markerfacecolor": "white"}
        if limit == plan.limit:
            look = {"color": style.ACCENT, "marker": "D"}
        ax.plot(hours, place, markersize=7, **look)
        words = f"   {hours:,.1f} h" + "  ← decides" * (limit == plan.limit)
        ax.text(hours, place, words, va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [f"{plan.endpoint}: {limit}" for plan, limit, _ in rows])
    hours = [hours for _, _, hours in rows]
    ax.set(xscale="log", xlim=(min(1, min(hours) / 2), 8 * max(hours)), ylim=(len(rows) - 0.5, -0.5))
    ax.grid(axis="y", color=style.PALE)
    ax.set_title(f"{plans[0].dialogues:,} dialogues, limit by limit")
    ax.set_xlabel("hours, if there were no other limit (log scale)")
    return fig


def space(sizes: dict, marks: dict):
    """Draw sizes : {what: [(dialogues, bytes)]}, a line each, and marks : {name: bytes} across."""
    fig, ax = style.figure(7, 3.6)
    _rising(ax, sizes, marks)
    ax.set(title="Room", ylabel="bytes")
    style.legend_below(fig, 3)
    return fig


def _rising(ax, lines, marks):
    """Lines on two logarithmic axes, and thin ones across, with their names at the left edge."""
    for number, (name, points) in enumerate(lines.items()):
        ax.plot(*zip(*points, strict=True), label=name, **style.line(number))
    for name, value in marks.items():
        ax.axhline(value, color=style.LIGHT, linewidth=0.8, zorder=0)
        ax.text(0.01, value, name, fontsize=8, color=style.MIDDLE, va="bottom", transform=ax.get_yaxis_transform())
    ax.set(xscale="log", yscale="log", xlabel="dialogues")
