"""The canonical form, and that every committed notebook is in it: whole, executed, quiet and nobody's in particular."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest
import run_notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

COMMITTED = sorted(run_notebooks.FOLDER.glob("[0-9]*.ipynb"))
# Homes and temporary folders of Linux, macOS and Windows.
SOMEBODYS_PATH = re.compile(r"/(home|Users|root|tmp|work|private|var/folders)/|[A-Z]:\\\\?Users")


def widget_output():
    """What JupyterLab stores for a shown widget."""
    data = {run_notebooks.WIDGET: {"model_id": "ab12"}, "text/plain": "HBox()"}
    return new_output("execute_result", data, execution_count=40)


def messy():
    """A notebook as it comes from somebody's JupyterLab session."""
    outputs = [
        new_output("stream", name="stdout", text="  0%|   \r 50%|#  "),
        new_output("stream", name="stdout", text="\r100%|###\ndone\n"),
        widget_output(),
    ]
    metadata = {"tags": ["keep"], "execution": {"iopub.status.busy": "2025-01-01"}, "collapsed": True}
    cells = [
        new_markdown_cell("# T", metadata={"jp-MarkdownHeadingCollapsed": True}),
        new_code_cell("1", execution_count=40, outputs=outputs, metadata=metadata),
        new_code_cell("", execution_count=None),
        new_code_cell("2", execution_count=7),
    ]
    kernel = {"name": "my-env", "display_name": "My env", "language": "python"}
    return new_notebook(cells=cells, metadata={"widgets": {"x": {}}, "kernelspec": kernel, "signature": "s"})


def test_canonical_form_drops_all_that_is_of_one_session_and_is_stable():
    mess = messy()
    clean = run_notebooks.canonical(mess)
    nbformat.validate(clean)
    assert clean.metadata == run_notebooks.METADATA
    assert [c.get("execution_count") for c in clean.cells] == [None, 1, None, 2]
    assert clean.cells[0].metadata == {} and clean.cells[1].metadata == {"tags": ["keep"]}
    stream, result = clean.cells[1].outputs
    assert stream.text == "100%|###\ndone\n"
    assert result.data == {"text/plain": "HBox()"} and result.execution_count == 1
    assert mess.metadata.kernelspec.name == "my-env" and len(mess.cells[1].outputs) == 3, "the argument is left alone"
    assert nbformat.writes(run_notebooks.canonical(clean)) == nbformat.writes(clean)


def test_the_command_runs_in_place_and_a_failure_changes_nothing(tmp_path, capsys):
    path = tmp_path / "1.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('a' * 3)")]), path)
    assert run_notebooks.main([str(path)]) == 0
    cell = run_notebooks.read(path).cells[0]
    assert (cell.execution_count, cell.outputs[0].text) == (1, "aaa\n")
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    assert run_notebooks.main([str(path)]) == 1 and path.read_bytes() == before
    assert re.match(r"1 stopped and is left as it was: code cell 1 ", capsys.readouterr().err)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
class TestCommitted:
    """Remedy for any failure here: `make notebooks` (or, where only the form is off, `--form`)."""

    def test_is_in_canonical_form(self, path):
        assert (
            path.read_text(encoding="utf-8")
            == nbformat.writes(run_notebooks.canonical(run_notebooks.read(path))) + "\n"
        )

    def test_is_executed_without_errors_or_warnings_and_shows_nobodys_paths(self, path):
        outputs = [o for c in run_notebooks.read(path).cells for o in c.get("outputs", [])]
        assert outputs, "nothing in it was run"
        assert not [o.evalue for o in outputs if o.output_type == "error"]
        assert not [o.text for o in outputs if o.get("name") == "stderr"]
        texts = [o.get("text", "") for o in outputs]
        texts += [v for o in outputs for k, v in o.get("data", {}).items() if k.startswith("text/")]
        # A picture inside HTML is base64, in which anything may occur.
        plain = re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", "\n".join(texts))
        assert not SOMEBODYS_PATH.search(plain) and str(Path.home()) not in plain

    def test_cells_are_short(self, path):
        lengths = sorted(len(c.source.splitlines()) for c in run_notebooks.read(path).cells if c.cell_type == "code")
        assert lengths[-1] <= 25 and lengths[len(lengths) // 2] <= 8


def test_notebooks_that_go_on_from_each_other_run_in_one_process_in_their_order():
    group = runpy.run_path(str(run_notebooks.FOLDER.parent / "conftest.py"))["group"]
    groups = [group(f"notebooks/{path.name}::Cell 3") for path in COMMITTED]
    assert groups == ["notebooks 00-05"] * 6 + ["notebooks 06-08"] * 3
    assert group("tests/test_a.py::test[a::b]") == "tests/test_a.py"
