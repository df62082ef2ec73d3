"""The instructors' guide: its plans add up, and what it names is there."""

import re
from pathlib import Path

import run_notebooks

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "notebooks" / "INSTRUCTORS.md").read_text(encoding="utf-8")


def section(title):
    """The text under a heading of level 2."""
    return re.search(rf"^## {title}.*?\n(.+?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)[1]


def test_plans_add_up():
    clock = 0
    for hours, minutes, long in re.findall(r"^\| (\d):(\d\d) \| (\d+) \|", section("Half a day"), re.MULTILINE):
        assert clock == 60 * int(hours) + int(minutes), f"{hours}:{minutes} is not when the row before ends"
        clock += int(long)
    assert clock == 240
    rows = re.findall(r"^\| (\d) \| (\d+) \|", section("Two days"), re.MULTILINE)
    assert [sum(int(long) for day, long in rows if day == number) for number in "12"] == [360, 360]
    assert sum(map(int, re.findall(r"^\| (\d+) \|", section("A third day"), re.MULTILINE))) == 360


def test_every_section_that_the_plans_name_exists():
    cells = [cell for path in run_notebooks.FOLDER.glob("0*.ipynb") for cell in run_notebooks.read(path).cells]
    headings = re.findall(r"^#+ (.+)$", "\n".join(c.source for c in cells if c.cell_type == "markdown"), re.MULTILINE)
    named = re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", section("Half a day") + section("A third day"))
    assert len(named) > 30
    assert [name for name in named if not any(heading.startswith(name) for heading in headings)] == []


def test_commands_that_it_names_exist():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^    |`)make ([a-z]+)", GUIDE, re.MULTILINE)
    assert {"teacher", "wheelhouse", "slides"} <= set(named) <= set(targets)
    for script in re.findall(r"`(?:python )?((?:benchmarks|tools)/\w+\.py)", GUIDE):
        assert (ROOT / script).is_file(), script
