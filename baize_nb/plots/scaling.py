"""Figures of notebook 08: what a corpus costs as it grows, and which limit bites."""

from . import style

_MARKS = {"an hour": 1, "a day": 24, "a month": 730, "a year": 8760}


def cost(plans: list):
    """Draw hours and dollars over the number of dialogues, a line for each endpoint; all scales logarithmic.

    plans : a list of arithmetic.Plan, those of one endpoint in rising order of their dialogues. An endpoint that asks
    for no dollars has no line on the right.
    """
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
    _marked(left, _MARKS)
    for ax, title, y in ((left, "Time", "hours"), (right, "Price", "dollars")):
        ax.set(xscale="log", yscale="log")
        style.label(ax, title, "dialogues", y)
    fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return fig


def limits(plans: list):
    """Draw the hours that each limit alone would take, endpoint by endpoint; the one that decides is marked.

    plans : a list of arithmetic.Plan, of the same number of dialogues.
    """
    rows = [(plan, limit, hours) for plan in plans for limit, hours in plan.hours.items()]
    fig, ax = style.figure(7, 0.34 * len(rows) + 1)
    for place, (plan, limit, hours) in enumerate(rows):
        decides = limit == plan.limit
        look = {"color": style.ACCENT, "hatch": ""} if decides else style.bars(1)
        ax.barh(place, hours, height=0.6, **look)
        ax.annotate(f"{hours:,.1f} h" + "  ← decides" * decides, (hours, place), (4, 0), textcoords="offset points",
                    va="center", fontsize=9)  # fmt: skip
    ax.set_yticks(range(len(rows)), [f"{plan.endpoint}: {limit}" for plan, limit, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xscale("log")
    longest = max(hours for _, _, hours in rows)
    ax.set_xlim(min(1, *(hours / 2 for _, _, hours in rows)), 8 * longest)
    style.label(ax, f"{plans[0].dialogues:,} dialogues, limit by limit", "hours, if there were no other limit")
    return fig


def space(sizes: dict, marks: dict):
    """Draw bytes over the number of dialogues, a line for each thing that needs them; both scales logarithmic.

    sizes : {what: [(dialogues, bytes)]}. marks : {name: bytes}, drawn across: what a machine has.
    """
    fig, ax = style.figure(7, 3.6)
    for number, (what, points) in enumerate(sizes.items()):
        ax.plot(*zip(*points, strict=True), label=what, **style.line(number))
    _marked(ax, marks)
    ax.set(xscale="log", yscale="log")
    style.label(ax, "Room", "dialogues", "bytes")
    fig.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return fig


def _marked(ax, marks):
    """Thin lines across, with their names at the left edge."""
    for name, value in marks.items():
        ax.axhline(value, color=style.LIGHT, linewidth=0.8, zorder=0)
        ax.annotate(name, (0.01, value), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
                    fontsize=8, color=style.MIDDLE)  # fmt: skip
