"""Figures of notebook 08: what a corpus costs as it grows, and which limit bites."""

from . import style


def cost(plans: list):
    """Draw hours and dollars of each endpoint over the number of dialogues, of `Plan`s in rising order."""
    fig, (left, right) = style.figure(7.6, 3.6, columns=2)
    for number, name in enumerate(dict.fromkeys(plan.endpoint for plan in plans)):
        found = [plan for plan in plans if plan.endpoint == name]
        sizes, paid = [plan.dialogues for plan in found], bool(found[0].usd)
        label = name if paid else f"{name} (no dollars)"
        left.plot(sizes, [plan.longest for plan in found], label=label, **style.line(number))
        if paid:
            right.plot(sizes, [plan.usd for plan in found], **style.line(number))
    for name, hours in {"an hour": 1, "a day": 24, "a month": 730, "a year": 8760}.items():
        left.axhline(hours, color=style.LIGHT, linewidth=0.8, zorder=0)
        left.text(0.01, hours, name, fontsize=8, color=style.MIDDLE, transform=left.get_yaxis_transform())
    left.set(title="Time", xscale="log", yscale="log", xlabel="dialogues", ylabel="hours")
    right.set(title="Price", xscale="log", yscale="log", xlabel="dialogues", ylabel="dollars")
    fig.legend(loc="outside lower center", ncols=2)
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
