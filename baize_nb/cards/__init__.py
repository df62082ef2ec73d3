"""The pages that travel with a corpus and with a model: what each is, how it was made, what is wrong with it, what for.

Their wording stands in corpus.md and model.md, templates of huggingface_hub; here is what fills them.
"""

import html
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .. import common, corpus, models, transcript
from ..common import CourseError
from ..corpus import Dialogue


def write_corpus_card(dialogues: Sequence[Dialogue], path, notes: Sequence[str] = ()) -> Path:
    """Write the card of the corpus at `path` beside it; return the card's path: `train.card.md` for train.jsonl.

    dialogues : what stands in the corpus. How it was made comes from its manifest, where it has one.
    notes     : more sentences for "What is wrong with it", for instance what was found by reading.
    Raises CourseError where there is no corpus to describe.
    """
    path = Path(path)
    if not dialogues or not path.is_file():
        raise CourseError(f"There are no dialogues in {common.show(path)} to describe. Write the corpus first.")

    def listed(field, source=None):
        values = [getattr(d, field) for d in dialogues if source in (None, d.source)]
        return ", ".join(_plain(value) for value, _ in Counter(filter(None, values)).most_common())

    about = {"dialogues": dialogues, "path": path, "listed": listed, "plain": _plain, "common": common}
    about |= {"corpus": corpus, "table": corpus.rule_table(dialogues), "notes": notes}
    return _write(path.with_suffix(".card.md"), "corpus.md", {"tags": ["synthetic", "self-chat"]}, **about)


def write_model_card(artifact, adapter, corpus_path=None) -> Path:
    """Write the card of a model that `merge` or `export_gguf` made; return its path, `<name>.card.md` beside it.

    artifact    : the merged folder or the GGUF file. adapter : the folder that it was made from.
    corpus_path : the train.jsonl that the adapter learned from, for its licences and how it was made; None leaves
                  them out, and the card says so.
    What a manifest does not say, the card calls unknown. Raises CourseError where there is no such model.
    """
    artifact = Path(artifact)
    if not artifact.exists():
        raise CourseError(f"There is no model {common.show(artifact)} to describe. Make it with finetune.merge first.")
    trained, made = common.read_manifest(adapter), common.read_manifest(artifact)
    run, embedded = trained.get("run") or {}, trained.get("base") == "embedded"
    data, note = {"encoded": trained.get("encoded"), "files": trained.get("sources")}, ""
    if corpus_path is None:
        note = "How the dialogues were made was not given to this card."
    else:
        manifest, dialogues = common.read_manifest(corpus_path), corpus.read(corpus_path)
        data |= {name: manifest.get(name) for name in ("made_by", "settings", "rules")}
        data["licences of the seeds"] = dict(Counter(d.license for d in dialogues))
        data["written by"] = dict(Counter(d.model for d in dialogues))
        if common.sha256(corpus_path) not in {source["sha256"] for source in trained.get("sources") or []}:
            note = "This corpus is not the file that the adapter's manifest names."
    file = artifact if artifact.is_file() else artifact / "model.safetensors"
    size = "several files"
    if file.is_file():
        size = f"{file.stat().st_size:,} bytes · SHA-256 `{common.sha256(file)}`"
    kept = ("loss_before", "loss_after", "dtype", "steps", "tokens", "seconds")
    about = {"artifact": artifact, "size": size, "embedded": embedded, "made": made, "transcript": transcript}
    about |= {"base": models.NAME if embedded else trained.get("base"), "data": data, "data_note": note}
    about |= {"settings": trained.get("settings") or {}, "run": {name: run.get(name) for name in kept}}
    tags = {"tags": ["baize", "lora"], "pipeline_tag": "text-generation"}
    return _write(artifact.with_name(artifact.name + ".card.md"), "model.md", tags, **about)


def _write(card, template, tags, **about):
    """Fill a template; write it with one empty line where its conditions leave several."""
    from huggingface_hub import CardData, RepoCard

    template = Path(__file__).with_name(template)
    text = RepoCard.from_template(CardData(**tags), template_path=str(template), facts=_facts, **about).content
    common.write_text(card, re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n")
    return card


def _plain(value, limit=160):
    """A fact in one line that Markdown shows as it stands: a corpus may hold anything, HTML and links included."""
    text = _said(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", html.escape(text, quote=False))


def _facts(facts):
    """Facts as an indented block, one a line: whatever stands in a manifest, Markdown shows it as it is."""
    known = [f"    {name}: {_said(value)}" for name, value in facts.items() if value or value == 0]
    return "\n".join(known) or "Not known: no manifest says it."


def _said(value):
    if isinstance(value, dict):
        return "(" + "; ".join(f"{name} {_said(inner)}" for name, inner in value.items()) + ")"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).split())
