"""The corpus card: what stands on it, that hostile text stays text, and that it is written whole or not at all."""

import re

import pytest

from baize_nb import common, corpus
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue


def talk(name, *contents, **facts):
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    given = {
        "source": "quora-style",
        "license": "Apache-2.0",
        "model": "tiny",
        "strategy": "open-header",
        "end": "max_turns",
    }
    return Dialogue(name, contents[0], messages=messages, **given | facts)


POOL = [
    talk("a", "Why do cats purr?", "They are calm."),
    talk("b", "Why do dogs bark?", "They bark because of the", source="own", license="CC BY 4.0"),
]


@pytest.fixture
def path(tmp_path):
    file = corpus.write(POOL, tmp_path / "train.jsonl")
    settings = {"sampling": {"temperature": 0.7}, "persona": "You are kind."}
    common.write_manifest(file, "notebooks/03.ipynb", settings=settings, rules=["loop"])
    return file


def pictures(text):
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)


def test_the_card_says_what_how_big_what_is_wrong_and_what_for(path):
    card = corpus.card(POOL, path, notes=["Read by hand: dull."])
    text = card.read_text()
    assert card.name == "train.card.md"
    assert "A language model wrote these dialogues" in text and "(tiny)" in text
    assert common.sha256(path) in text and "2 dialogues · 2 turns" in text
    assert "temperature 0.7" in text and "You are kind." in text and "made by: notebooks/03.ipynb" in text
    assert "| own | 1 | 1.0 |" in text and "Apache-2.0, CC BY 4.0" in text
    assert "| cut_off | 1 | 50.0% | b: message 2 ends with 'the' |" in text and "Read by hand: dull." in text
    assert "Near duplicates: 0 dialogues in 0 clusters" in text and "Not for:" in text
    assert len(pictures(text)) == 2
    assert all((path.parent / name).read_bytes().startswith(b"\x89PNG") for name in pictures(text))


def test_the_same_corpus_gives_the_same_card(path):
    first = corpus.card(POOL, path).read_bytes()
    assert corpus.card(POOL, path).read_bytes() == first


def test_without_a_manifest_it_says_so(path):
    for content in (None, "{torn", "[1]"):
        common.manifest_path(path).unlink(missing_ok=True)
        if content:
            common.manifest_path(path).write_text(content)
        assert corpus.read_manifest(path) == {}
        assert "how it was made is not known" in corpus.card(POOL, path).read_text()


def test_hostile_text_stays_text(path):
    evil = "<img src=x onerror=alert(1)> | [click](javascript:x) `code` ![i](http://x)\n# Title"
    pool = [talk("<b>|`x`", evil + "?", "They bark because of the", model=evil, source=evil, license=evil, end=evil)]
    text = corpus.card(pool, path, notes=[evil], uses=[evil]).read_text()
    assert "<img" not in text and "<b>" not in text
    assert not re.search(r"(?<!\\)\[click", text) and "\n# Title" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert cells == {5, 7}  # the two tables, none of their rows torn apart
    assert len(pictures(text)) == 2


def test_a_failure_leaves_the_old_card_with_its_figures(path, monkeypatch):
    card = corpus.card(POOL, path)
    before = card.read_text()
    other = [talk("a", "Why do cats purr?", " ".join(["calm"] * 90))]
    monkeypatch.setattr(common, "write_text", _full_disk)
    with pytest.raises(CourseError, match="no space"):
        corpus.card(other, path)
    assert card.read_text() == before
    assert all((path.parent / name).is_file() for name in pictures(before))
    monkeypatch.undo()
    after = corpus.card(other, path).read_text()
    assert after != before
    kept = sorted(p.name for p in (path.parent / "train.card").iterdir())
    assert kept == sorted(name.split("/")[1] for name in pictures(after)), "old figures go, and no temporary file stays"


def _full_disk(path, text):
    raise CourseError("no space")


def test_nothing_to_describe(path, tmp_path):
    with pytest.raises(CourseError, match="no dialogues"):
        corpus.card([], path)
    with pytest.raises(CourseError, match=r"none\.jsonl"):
        corpus.card(POOL, tmp_path / "none.jsonl")
    assert not list(tmp_path.glob("*.card*"))
