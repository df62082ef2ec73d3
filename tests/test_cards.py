"""The cards: what stands on them comes from the manifests and the dialogues; hostile text stays text."""

import json
import re
import shutil

import pytest
from huggingface_hub import DatasetCard, ModelCard
from smalltalk import dialogue

from baize_nb import cards, common, corpus, transcript
from baize_nb.common import CourseError

ABOUT = {"model": "tiny", "strategy": "open-header", "end": "max_turns"}
POOL = [
    dialogue("Why do cats purr?", "They are calm.", id="a", source="quora-style", license="Apache-2.0", **ABOUT),
    dialogue("Why do dogs bark?", "They bark because of the", id="b", source="own", license="CC BY 4.0", **ABOUT),
]
EVIL = "<img src=x onerror=alert(1)> | [click](javascript:x) `code` ![i](http://x)\n# Title"
TRAIN = common.DATA / "corpus" / "train.jsonl"


def pictures(text):
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)


@pytest.fixture
def path(tmp_path):
    file = corpus.write(POOL, tmp_path / "train.jsonl")
    settings = {"sampling": {"temperature": 0.7}, "persona": "You are kind."}
    common.write_manifest(file, "notebooks/03.ipynb", settings=settings, rules=["loop"])
    return file


def test_a_corpus_card_says_what_how_big_what_is_wrong_and_what_for(path):
    card = cards.write_corpus_card(POOL, path, notes=["Read by hand: dull."])
    text = card.read_text()
    assert card.name == "train.card.md" and DatasetCard.load(card).data.tags == ["synthetic", "self-chat"]
    for part in (
        "A language model wrote these dialogues, both sides of them** (tiny)",
        common.sha256(path),
        "2 dialogues · 2 turns",
        "- sampling: temperature 0.7\n- persona: You are kind.\n- made by: notebooks/03.ipynb",
        "| own | 1 | 1.0 | 4.0 | 5.0 | CC BY 4.0 |\n| quora-style",
        "licences of the seeds: apache-2.0, cc by 4.0",
        "| cut_off | 1 | 50.0% | b: message 2 ends with 'the' |",
        "Near duplicates: 0 dialogues in 0 clusters.\n\n- Read by hand: dull.\n",
        "\nNot for:\n\n- Advice",
    ):
        assert part in text or part in text.lower(), part
    assert len(pictures(text)) == 2 and "\n\n\n" not in text
    assert all((path.parent / name).read_bytes().startswith(b"\x89PNG") for name in pictures(text))
    again = cards.write_corpus_card(POOL, path, notes=["Read by hand: dull."]).read_text()
    assert again == text, "the same corpus gives the same card"


@pytest.mark.parametrize("content", [None, "{torn", "[1]"])
def test_without_a_manifest_a_corpus_card_says_so(path, content):
    common.manifest_path(path).unlink()
    if content:
        common.manifest_path(path).write_text(content)
    assert "how it was made is not known" in cards.write_corpus_card(POOL, path).read_text()


def test_hostile_dialogues_stay_text(path):
    facts = dict.fromkeys(("model", "source", "license", "end"), EVIL)
    pool = [dialogue(EVIL + "?", "They bark because of the", id="<b>|`x`", **facts)]
    text = cards.write_corpus_card(pool, path, notes=[EVIL]).read_text()
    assert "<img" not in text and "<b>" not in text
    assert not re.search(r"(?<!\\)\[click", text) and "\n# Title" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5, 7}, "no row of the two tables is torn apart"
    assert len(pictures(text)) == 2


def test_a_failure_leaves_the_old_card_with_its_figures(path, monkeypatch):
    card = cards.write_corpus_card(POOL, path)
    before = card.read_text()
    other = [dialogue("Why do cats purr?", " ".join(["calm"] * 90))]

    def full(path, text):
        raise CourseError("no space")

    monkeypatch.setattr(common, "write_text", full)
    with pytest.raises(CourseError, match="no space"):
        cards.write_corpus_card(other, path)
    assert card.read_text() == before and all((path.parent / name).is_file() for name in pictures(before))
    monkeypatch.undo()
    after = cards.write_corpus_card(other, path).read_text()
    kept = sorted(p.name for p in (path.parent / "train.card").iterdir())
    assert kept == sorted(name.split("/")[1] for name in pictures(after)), "old figures go, no temporary file stays"


def test_nothing_to_describe(path, tmp_path):
    with pytest.raises(CourseError, match="no dialogues"):
        cards.write_corpus_card([], path)
    with pytest.raises(CourseError, match=r"none\.jsonl"):
        cards.write_corpus_card(POOL, tmp_path / "none.jsonl")
    with pytest.raises(CourseError, match=r"no model .*nothing\.gguf.* to describe"):
        cards.write_model_card(tmp_path / "nothing.gguf", tmp_path)
    assert not list(tmp_path.glob("*.card*"))


# ---- the model card


@pytest.fixture
def adapter(tmp_path):
    """A copy of the shipped adapter with its manifest."""
    shutil.copytree(common.DATA / "adapter", tmp_path / "adapter")
    shutil.copy(common.manifest_path(common.DATA / "adapter"), tmp_path)
    return tmp_path / "adapter"


@pytest.fixture
def model(tmp_path, adapter):
    """A file in place of a model: the card reads its name, size and manifest only."""
    file = tmp_path / "baize.Q8_0.gguf"
    file.write_bytes(b"GGUF")
    common.write_manifest(file, "export_gguf", sources=[adapter / "adapter_model.safetensors"], kind="Q8_0")
    return file


def change(adapter, **facts):
    manifest = common.manifest_path(adapter)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | facts))


def test_a_model_card_says_base_data_settings_losses_limits_licence_and_how_to_run(model, adapter):
    path = cards.write_model_card(model, adapter, TRAIN)
    text = path.read_text(encoding="utf-8")
    run = common.read_manifest(adapter)["run"]
    assert path.name == "baize.Q8_0.gguf.card.md" and ModelCard.load(path).data.pipeline_tag == "text-generation"
    facts = [common.sha256(model), "base model: SmolLM2-135M-Instruct\n    kind: Q8_0", "132 dialogues"]
    facts += ["seeds: (Apache-2.0 132)", "learning_rate: 0.0005", "rank: 8", "made_by: export_gguf", "never run"]
    facts += [f"loss {when}: {run[f'loss_{when}']:.3f}" for when in ("before", "after")]
    facts += [
        "the loss is on the assistant's words only",
        "in medicine above all",
        "not a lock",
        "Apache-2.0 (SmolLM2)",
    ]
    facts += ["Engine(", "llama-server -m baize.Q8_0.gguf", "ollama create", "lms import"]
    assert [fact for fact in facts if fact not in text] == []
    assert common.sha256(adapter / "adapter_model.safetensors") in text
    assert "not the file" not in text and "\n\n\n" not in text


def test_what_was_learned_and_in_which_numbers_comes_from_the_manifest(model, adapter):
    made = common.read_manifest(adapter)
    settings = made["settings"] | {"dtype": "auto", "loss_on": "all", "evil": EVIL + "\u2028```"}
    change(adapter, settings=settings, run=made["run"] | {"dtype": "bfloat16"})
    text = cards.write_model_card(model, adapter).read_text(encoding="utf-8")
    assert "the loss is on every token" in text and "dtype: bfloat16" in text and "auto" not in text
    hostile = [line for line in text.splitlines() if "onerror" in line or "Title" in line]
    assert hostile and all(line.startswith("    ") for line in hostile)


def test_the_modelfile_writes_the_format(model, adapter):
    text = cards.write_model_card(model, adapter).read_text(encoding="utf-8")
    modelfile = text.split("```text\n")[1].split("\n```")[0]
    go = modelfile.split('"""')[1]
    question = '{{ range .Messages }}{{ if eq .Role "user" }}'
    assert go.startswith("{{ if .System }}{{ .System }}{{ else }}") and question in go
    written = go.replace("{{ if .System }}{{ .System }}{{ else }}", "").replace(question, "")
    before, rest = written.split("\n[|Human|] ")
    assert before == transcript.PREAMBLE.rstrip("\n") + "{{ end }}"
    assert rest == (
        '{{ .Content }}\n{{ else if eq .Role "assistant" }}[|AI|] {{ .Content }}<|im_end|>\n{{ end }}{{ end }}[|AI|]'
    )
    assert modelfile.startswith("FROM ./baize.Q8_0.gguf\n") and modelfile.count("PARAMETER stop") == 2


def test_a_folder_is_run_by_models_load(tmp_path, adapter):
    (tmp_path / "merged").mkdir()
    text = cards.write_model_card(tmp_path / "merged", adapter).read_text(encoding="utf-8")
    assert 'models.load("merged")' in text and "llama-server" not in text and transcript.PREAMBLE.strip() in text


def test_what_no_manifest_says_is_unknown_and_another_corpus_is_noticed(model, adapter, tmp_path):
    other = tmp_path / "train.jsonl"
    other.write_text(TRAIN.read_text(encoding="utf-8").split("\n")[0] + "\n", encoding="utf-8")
    text = cards.write_model_card(model, adapter, other).read_text()
    assert "not the file that the adapter's manifest names" in text
    for manifest in (common.manifest_path(adapter), common.manifest_path(model)):
        manifest.unlink()
    text = cards.write_model_card(model, adapter).read_text(encoding="utf-8")
    assert text.count("Not known: no manifest says it.") == 4
    assert "was not given to this card" in text and "the base model's own" in text
