"""The model card: what stands on it comes from the manifests, and what they do not say is called unknown."""

import json
import shutil

import pytest

from baize_nb import common, finetune, transcript
from baize_nb.common import CourseError

TRAIN = common.DATA / "corpus" / "train.jsonl"


@pytest.fixture
def adapter(tmp_path):
    """A copy of the shipped adapter with its manifest."""
    folder = tmp_path / "adapter"
    shutil.copytree(common.DATA / "adapter", folder)
    shutil.copy(common.manifest_path(common.DATA / "adapter"), tmp_path)
    return folder


@pytest.fixture
def model(tmp_path, adapter):
    """A file in place of a model: the card reads its name, size and manifest only."""
    file = tmp_path / "baize.Q8_0.gguf"
    file.write_bytes(b"GGUF")
    common.write_manifest(file, "export_gguf", sources=[adapter / "adapter_model.safetensors"], kind="Q8_0")
    return file


def test_the_card_says_base_data_settings_losses_limits_licence_and_how_to_run(model, adapter):
    path = finetune.write_model_card(model, adapter, TRAIN)
    text = path.read_text(encoding="utf-8")
    run = json.loads(common.manifest_path(adapter).read_text())["run"]
    assert path.name == "baize.Q8_0.gguf.card.md"
    assert common.sha256(model) in text and "base model: SmolLM2-135M-Instruct" in text and "kind: Q8_0" in text
    assert "132 dialogues" in text and "seeds: (Apache-2.0 132)" in text and "strategy" in text and "echo" in text
    assert "learning_rate: 0.0005" in text and "rank: 8" in text
    assert f"held-out loss after: {run['loss_after']:.3f}" in text and f"before: {run['loss_before']:.3f}" in text
    assert "in medicine above all" in text and "not a lock" in text and "Apache-2.0 (SmolLM2)" in text
    assert all(name in text for name in ("Engine(", "llama-server -m baize.Q8_0.gguf", "ollama create", "lms import"))
    assert "made_by: export_gguf" in text and common.sha256(adapter / "adapter_model.safetensors") in text
    assert "never run" in text and "not the file" not in text


def test_what_was_learned_and_in_which_numbers_comes_from_the_manifest(model, adapter):
    assert "the loss is on the assistant's words only" in finetune.write_model_card(model, adapter).read_text("utf-8")
    manifest = common.manifest_path(adapter)
    made = json.loads(manifest.read_text())
    made["settings"] |= {"dtype": "auto", "loss_on": "all"}
    made["run"]["dtype"] = "bfloat16"
    manifest.write_text(json.dumps(made))
    text = finetune.write_model_card(model, adapter).read_text(encoding="utf-8")
    assert "the loss is on every token" in text and "dtype: bfloat16" in text and "auto" not in text


def test_the_modelfile_writes_the_format(model, adapter):
    text = finetune.write_model_card(model, adapter).read_text(encoding="utf-8")
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
    folder = tmp_path / "merged"
    folder.mkdir()
    text = finetune.write_model_card(folder, adapter).read_text(encoding="utf-8")
    assert 'models.load("merged")' in text and "llama-server" not in text
    assert transcript.PREAMBLE.strip() in text


def test_what_no_manifest_says_is_unknown(model, adapter):
    for manifest in (common.manifest_path(adapter), common.manifest_path(model)):
        manifest.unlink()
    text = finetune.write_model_card(model, adapter).read_text(encoding="utf-8")
    assert text.count("Not known: no manifest says it.") == 4
    assert "was not given to this card" in text and "the base model's own" in text


def test_another_corpus_than_the_adapters_is_noticed(model, adapter, tmp_path):
    other = tmp_path / "train.jsonl"
    other.write_text(TRAIN.read_text(encoding="utf-8").split("\n")[0] + "\n", encoding="utf-8")
    assert (
        "not the file that the adapter's manifest names" in finetune.write_model_card(model, adapter, other).read_text()
    )


def test_hostile_facts_stay_text(model, adapter):
    path = common.manifest_path(adapter)
    manifest = json.loads(path.read_text())
    manifest["settings"] = {"evil": "a\n# Title\n<img src=x onerror=alert(1)> [click](javascript:x)\u2028```"}
    path.write_text(json.dumps(manifest))
    text = finetune.write_model_card(model, adapter).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "onerror" in line or "Title" in line]
    assert lines and all(line.startswith("    ") for line in lines)


def test_no_model_no_card(tmp_path, adapter):
    with pytest.raises(CourseError, match=r"no model .*nothing\.gguf.* to describe"):
        finetune.write_model_card(tmp_path / "nothing.gguf", adapter)
    assert not list(tmp_path.glob("*.card.md"))
