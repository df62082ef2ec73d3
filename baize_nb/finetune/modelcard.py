"""The model card: one page that travels with a model and says what it is, what it learned from, and how to run it.

Knows: the manifests of the model, its adapter and its corpus. Does not know: whether anything the model says is true;
the card says so. Built in notebook 05.
"""

import math
from collections import Counter
from pathlib import Path

from .. import common, corpus, models, transcript
from ..common import CourseError

LIMITS = (
    "It states falsehoods fluently, in medicine above all: what it says is no advice to anybody. A language model "
    "wrote its training dialogues, and nobody checked them.",
    "It has no clock and no news, and it rarely says that it does not know.",
    "The preamble asks it to decline some requests. That is a sentence in a prompt, not a lock: whoever runs the model "
    "can leave it out, and a small model hardly heeds it.",
    "It was tuned on English dialogues of a few turns, and repeats what its base model learned, prejudice included.",
)
STOPS = (transcript.HUMAN, transcript.AI)


def write_model_card(artifact, adapter, corpus_path=None):
    """Write the card of a model that `merge` or `export_gguf` made; return its path, `<name>.card.md` beside it.

    artifact    : the merged folder or the GGUF file. adapter : the folder that it was made from.
    corpus_path : the train.jsonl that the adapter learned from, for its licences and how it was made; None leaves
                  them out, and the card says so.
    What a manifest does not say, the card calls unknown. Raises CourseError where there is no such model.
    """
    artifact, adapter = Path(artifact), Path(adapter)
    if not artifact.exists():
        raise CourseError(f"There is no model {common.show(artifact)} to describe. Make it with finetune.merge first.")
    trained, made = corpus.read_manifest(adapter), corpus.read_manifest(artifact)
    sections = (
        _head(artifact, made, trained),
        _data(trained, corpus_path),
        _training(trained),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in LIMITS),
        _licence(trained),
        "## How to run it\n\n" + (_gguf_words(artifact.name) if artifact.is_file() else _folder_words(artifact.name)),
        "## Made by\n\n" + _facts({name: made.get(name) for name in ("made_by", "made_at", "sources", "versions")}),
    )
    path = artifact.with_name(artifact.name + ".card.md")
    common.write_text(path, "\n\n".join(sections) + "\n")
    return path


def _head(artifact, made, trained):
    """Title, the warning, and which file is meant."""
    file = artifact if artifact.is_file() else artifact / "model.safetensors"
    size = f"{file.stat().st_size:,} bytes · SHA-256 `{common.sha256(file)}`" if file.is_file() else "several files"
    about = {"base model": _base(trained), "kind": made.get("kind", "transformers folder")}
    return (
        f"# Model card: {artifact.name}\n\n"
        "> **A small chat model that was made in a course, to learn how such models are made.** It is often wrong, "
        "however fluent it sounds. Do not act on what it says, least of all about health.\n\n"
        f"{size}\n\n" + _facts(about)
    )


def _base(trained):
    """Base model of an adapter, in words."""
    return models.NAME if trained.get("base") == "embedded" else trained.get("base")


def _data(trained, path):
    """What it learned from: counts from the adapter's manifest, the rest from the corpus itself and its manifest."""
    facts = {"encoded": trained.get("encoded"), "files": trained.get("sources")}
    notes = ["How the dialogues were made was not given to this card."]
    if path is not None:
        made, dialogues = corpus.read_manifest(path), corpus.read(path)
        facts |= {name: made.get(name) for name in ("made_by", "settings", "rules")}
        facts["licences of the seeds"] = dict(Counter(d.license for d in dialogues))
        facts["written by"] = dict(Counter(d.model for d in dialogues))
        known = {source["sha256"] for source in trained.get("sources") or []}
        same = common.sha256(path) in known
        notes = [] if same else ["This corpus is not the file that the adapter's manifest names."]
    return "\n\n".join(["## What it learned from", _facts(facts), *notes])


def _training(trained):
    """Settings and losses."""
    run = trained.get("run") or {}
    losses = {
        name: f"{run[key]:.3f} (perplexity {math.exp(run[key]):.1f})"
        for name, key in (("held-out loss before", "loss_before"), ("held-out loss after", "loss_after"))
        if key in run
    }
    facts = losses | {name: run.get(name) for name in ("steps", "tokens", "seconds")}
    settings = trained.get("settings") or {}
    if "dtype" in run:  # in `settings` it may be "auto"
        settings = settings | {"dtype": run["dtype"]}
    learned = "every token, as Baize did" if settings.get("loss_on") == "all" else "the assistant's words only"
    return (
        f"## How it was trained\n\nLoRA, by Baize's recipe; the loss is on {learned}.\n\n"
        f"{_facts(settings)}\n\nLosses are means in nats per token.\n\n{_facts(facts)}"
    )


def _licence(trained):
    """Whose terms apply."""
    base = "Apache-2.0 (SmolLM2)" if trained.get("base") == "embedded" else "the base model's own: look them up"
    return (
        f"## Licence\n\nThe base model's terms apply: {base}. So do those of the seeds and of the model that wrote the "
        "dialogues, named above."
    )


def _gguf_words(name):
    """Commands for one GGUF file."""
    serve = (
        f'from baize_nb.teacher import Engine\n\nengine = Engine("{name}", "baize")  # engine.url: OpenAI-compatible'
    )
    return "\n\n".join(
        [
            f"The file brings its chat template. What the model reads:\n\n{_block(_example())}",
            f"In the course, with the llama.cpp that is embedded there:\n\n```python\n{serve}\n```",
            f"The three below were never run by this course.\n\nllama.cpp: `llama-server -m {name}`",
            f"LM Studio: `lms import {name}`, then choose it in the app.",
            "Ollama has a template language of its own. Save this as `Modelfile`, then "
            f"`ollama create baize -f Modelfile` and `ollama run baize`:\n\n```text\n{modelfile(name)}\n```",
        ]
    )


def _folder_words(name):
    """Commands for a transformers folder."""
    code = (
        "from baize_nb import chat, models\n\n"
        f'model, tokenizer = models.load("{name}")\n'
        'print(chat.ChatSession(model, tokenizer).answer("What is rain?"))'
    )
    return (
        f"Any program that reads a LLaMA in transformers form can run it. What the model reads:\n\n{_block(_example())}"
        f"\n\n```python\n{code}\n```\n\n`tokenizer.apply_chat_template` writes the same text."
    )


def modelfile(name):
    """Ollama's Modelfile for the GGUF file `name`: the Baize format in Go's template language."""
    preamble = transcript.PREAMBLE.rstrip("\n")
    stops = "\n".join(f'PARAMETER stop "{stop}"' for stop in STOPS)
    return (
        f'FROM ./{name}\nTEMPLATE """{{{{ if .System }}}}{{{{ .System }}}}{{{{ else }}}}{preamble}{{{{ end }}}}\n'
        f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{transcript.HUMAN} {{{{ .Content }}}}\n'
        f'{{{{ else if eq .Role "assistant" }}}}{transcript.AI} {{{{ .Content }}}}<|im_end|>\n'
        f'{{{{ end }}}}{{{{ end }}}}{transcript.AI}"""\n{stops}\nPARAMETER temperature 1\nPARAMETER top_p 0.95'
    )


def _example():
    return transcript.prompt([{"role": "user", "content": "What is rain?"}])


def _facts(facts):
    """Facts as an indented block, one a line: whatever stands in a manifest, Markdown shows it as it is."""
    known = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    if not known:
        return "Not known: no manifest says it."
    return _block("\n".join(f"{name}: {_said(value)}" for name, value in known.items()))


def _block(text):
    return "\n".join("    " + line for line in text.splitlines())


def _said(value):
    """A value in one line."""
    if isinstance(value, dict):
        return "(" + "; ".join(f"{name} {_said(inner)}" for name, inner in value.items()) + ")"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    return " ".join(str(value).split())
