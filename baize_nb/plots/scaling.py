"""Figures of notebook 08: what a corpus costs as it grows, and which limit bites."""

from . import style


def cost(plans: list):
    """Draw hours and dollars of each endpoint over the number of dialogues, of `Plan`s in rising order."""
    lines = {}
    for plan in plans:
        lines.setdefault(plan.endpoint, []).append(plan)
    fig, (left, right) = style.figure(7.6, 3.6, columns=2)
    for number, (name, found) in enumerate(lines.items()):
        sizes = [plan.dialogues for plan in found]
        label = name if found[-1].usd else f"{name} (no dollars)"
        left.plot(sizes, [plan.longest for plan in found], label=label, **style.line(number))
        if found[-1].usd:
            right.plot(sizes, [plan.usd for plan in found], **style.line(number))
    _marked(left, {"an hour": 1, "a day": 24, "a month": 730, "a year": 8760})
    for ax, title, y in ((left, "Time", "hours"), (right, "Price", "dollars")):
        ax.set(xscale="log", yscale="log")
        style.label(ax, title, "dialogues", y)
    style.legend_below(fig, 2)
    return fig


def limits(plans: list):
    """Draw the hours that each limit alone would take in `Plan`s of one size; the one that decides is marked."""
    rows = [(plan, limit, hours) for plan in plans for limit, hours in plan.hours.items()]
    fig, ax = style.figure(7, 0.34 * len(rows) + 1)
    for place, (plan, limit, hours) in enumerate(rows):
        decides = limit == plan.limit
        # Dots: on a logarithmic scale a bar has no beginning, so its length says nothing.
        tone, inside = (style.ACCENT, style.ACCENT) if decides else (style.MIDDLE, "white")
        ax.plot(hours, place, "D" if decides else "o", markersize=7, color=tone, markerfacecolor=inside)
        words = f"{hours:,.1f} h" + "  ← decides" * decides
        ax.annotate(words, (hours, place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [f"{plan.endpoint}: {limit}" for plan, limit, _ in rows])
    ax.set_xscale("log")
    hours = [hours for _, _, hours in rows]
    ax.set(xlim=(min(1, min(hours) / 2), 8 * max(hours)), ylim=(len(rows) - 0.5, -0.5))
    ax.grid(axis="y", color=style.PALE)
    ax.set_axisbelow(True)
    style.label(
        ax, f"{plans[0].dialogues:,} dialogues, limit by limit", "hours, if there were no other limit (log scale)"
    )
    return fig


def space(sizes: dict, marks: dict):
    """Draw sizes : {what: [(dialogues, bytes)]}, a line each, and marks : {name: bytes} across."""
    fig, ax = style.figure(7, 3.6)
    for number, (what, points) in enumerate(sizes.items()):
        ax.plot(*zip(*points, strict=True), label=what, **style.line(number))
    _marked(ax, marks)
    ax.set(xscale="log", yscale="log")
    style.label(ax, "Room", "dialogues", "bytes")
    style.legend_below(fig, 3)
    return fig


def _marked(ax, marks):
    """Thin lines across, with their names at the left edge."""
    for name, value in marks.items():
        ax.axhline(value, color=style.LIGHT, linewidth=0.8, zorder=0)
        place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "textcoords": "offset points"}
        ax.annotate(name, (0.01, value), fontsize=8, color=style.MIDDLE, **place)
