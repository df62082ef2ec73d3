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


@pytest.fixture
def path(tmp_path):
    file = corpus.write(POOL, tmp_path / "train.jsonl")
    common.write_manifest(file, "notebooks/03.ipynb", settings={"sampling": {"temperature": 0.7}}, rules=["loop"])
    return file


def test_a_corpus_card_says_what_how_big_what_is_wrong_and_what_for(path):
    card = cards.write_corpus_card(POOL, path, notes=["Read by hand: dull."])
    text = card.read_text()
    assert card.name == "train.card.md" and DatasetCard.load(card).data.tags == ["synthetic", "self-chat"]
    for part in (
        "A language model wrote these dialogues, both sides of them** (tiny)",
        common.sha256(path),
        "2 dialogues · 2 turns",
        "    made_by: notebooks/03.ipynb",
        "    settings: (sampling (temperature 0.7))\n    rules: loop",
        "| own | 1 | 1.0 | 4.0 | 5.0 | CC BY 4.0 |\n| quora-style",
        "Licences of the seeds: Apache-2.0, CC BY 4.0",
        "| cut_off | 1 | 50.0% | b: message 2 ends with 'the' |",
        "Near duplicates: 0.\n\n- Read by hand: dull.\n",
        "\nNot for:\n\n- Advice",
    ):
        assert part in text, part
    assert "\n\n\n" not in text
    assert cards.write_corpus_card(POOL, path, notes=["Read by hand: dull."]).read_text() == text
    common.manifest_path(path).write_text("{torn")
    assert "Not known: no manifest says it." in cards.write_corpus_card(POOL, path).read_text()


def test_hostile_dialogues_stay_text(path):
    facts = dict.fromkeys(("model", "source", "license", "end"), EVIL)
    pool = [dialogue(EVIL + "?", "They bark because of the", id="<b>|`x`", **facts)]
    text = cards.write_corpus_card(pool, path, notes=[EVIL]).read_text()
    assert "<img" not in text and "<b>" not in text
    assert not re.search(r"(?<!\\)\[click", text) and "\n# Title" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5, 7}, "no row of the two tables is torn apart"


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


def test_a_model_card_says_base_data_settings_losses_limits_licence_and_how_to_run(model, adapter):
    path = cards.write_model_card(model, adapter, TRAIN)
    text = path.read_text(encoding="utf-8")
    run = common.read_manifest(adapter)["run"]
    assert path.name == "baize.Q8_0.gguf.card.md" and ModelCard.load(path).data.pipeline_tag == "text-generation"
    facts = [common.sha256(model), "base model: SmolLM2-135M-Instruct\n    kind: Q8_0"]
    facts += [f"(Apache-2.0 {len(corpus.read(TRAIN))})", "learning_rate: 0.0005", "rank: 8", "made_by: export_gguf"]
    facts += [f"loss_{when}: {run[f'loss_{when}']:.4g}" for when in ("before", "after")]
    facts += ["the loss is on the assistant's words only", "in medicine above all", "not a lock", "never run"]
    facts += ["Apache-2.0 (SmolLM2)", "Engine(", "llama-server -m baize.Q8_0.gguf", "ollama create", "lms import"]
    assert [fact for fact in facts if fact not in text] == []
    assert common.sha256(adapter / "adapter_model.safetensors") in text
    assert "not the file" not in text and "\n\n\n" not in text


def test_the_modelfile_writes_the_format(model, adapter):
    text = cards.write_model_card(model, adapter).read_text(encoding="utf-8")
    modelfile = text.split("```text\n")[1].split("\n```")[0]
    go = modelfile.split('"""')[1]
    question = '{{ range .Messages }}{{ if eq .Role "user" }}'
    written = go.replace("{{ if .System }}{{ .System }}{{ else }}", "").replace(question, "")
    before, rest = written.split("\n[|Human|] ")
    assert before == transcript.PREAMBLE.rstrip("\n") + "{{ end }}"
    answer = '{{ else if eq .Role "assistant" }}[|AI|] {{ .Content }}<|im_end|>'
    assert rest == f"{{{{ .Content }}}}\n{answer}\n{{{{ end }}}}{{{{ end }}}}[|AI|]"
    assert modelfile.startswith("FROM ./baize.Q8_0.gguf\n") and modelfile.count("PARAMETER stop") == 2


def test_a_folder_is_run_by_models_load_and_what_no_manifest_says_is_unknown(tmp_path, model, adapter):
    (tmp_path / "merged").mkdir()
    text = cards.write_model_card(tmp_path / "merged", adapter).read_text(encoding="utf-8")
    assert 'models.load("merged")' in text and "llama-server" not in text and transcript.PREAMBLE.strip() in text
    made = common.read_manifest(adapter)
    made["settings"] |= {"loss_on": "all", "evil": EVIL + "\u2028```"}
    common.manifest_path(adapter).write_text(json.dumps(made))
    other = corpus.write(corpus.read(TRAIN)[:1], tmp_path / "other.jsonl")
    text = cards.write_model_card(model, adapter, other).read_text(encoding="utf-8")
    assert "the loss is on every token" in text and "not the file that the adapter's manifest names" in text
    hostile = [line for line in text.splitlines() if "onerror" in line or "Title" in line]
    assert hostile and all(line.startswith("    ") for line in hostile)
    for manifest in (common.manifest_path(adapter), common.manifest_path(model)):
        manifest.unlink()
    text = cards.write_model_card(model, adapter).read_text(encoding="utf-8")
    assert text.count("Not known: no manifest says it.") == 4
    assert "was not given to this card" in text and "the base model's own" in text
