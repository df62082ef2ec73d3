"""The website: every page is there, every link inside it leads somewhere, and it loads nothing from elsewhere."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Page(HTMLParser):
    """What a page of HTML links to, what it loads, and the names that can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.names = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names.add(found.get("id"))
        if tag == "a":
            self.links.add(found.get("href") or "")
        elif tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.add(found.get("href") or "")
        elif tag in ("script", "img", "iframe"):
            self.loads.add(found.get("src") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "site"
    command = [sys.executable, ROOT / "tools" / "book.py", "--to", folder, "--without-chat"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return {path: Page(path) for path in folder.rglob("*.html") if "_static" not in path.parts}


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    names = {path.stem for path in site}
    assert {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")} | {"index", "GLOSSARY", "colab"} <= names
    for path, page in site.items():
        for link in page.links | page.loads:
            if link.startswith(("https:", "http:", "mailto:", "data:")):
                assert link in page.links or link.startswith("data:"), f"{path.name} loads {link}"
                continue
            file, _, anchor = unquote(link.split("?")[0]).partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), f"{path.name}: {link}"
            if anchor and target in site and path.stem != "genindex":
                assert anchor in site[target].names, f"{path.name}: {link} names no heading"
    notebook = next(path for path in site if path.stem == "04_lora_finetuning")
    text = notebook.read_text(encoding="utf-8")
    assert text.count('class="cell_output') > 15 and "data:image/png" in text, "outputs and figures are shown"
