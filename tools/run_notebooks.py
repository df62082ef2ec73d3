"""Running notebooks, and the one form in which they are committed.

Knows: how to run a notebook in this Python and say which cell failed; what a clean notebook file looks like.
Does not know: which notebooks make the course (course.py does), or what is in them.

    python tools/run_notebooks.py [FILE ...]          run in place, then bring into canonical form
    python tools/run_notebooks.py --form [FILE ...]   the form alone, nothing is run
"""

import contextlib
import copy
import logging
import subprocess
import sys
from pathlib import Path

from baize_nb import common
from baize_nb.common import CourseError

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET = "application/vnd.jupyter.widget-view+json"


class CellFailed(CourseError):
    """A code cell that ended in an error. `number` counts code cells from 1, as `[n]:` beside the cell does."""

    def __init__(self, number, source, sentence):
        self.number, self.line, self.sentence = number, _first_line(source), sentence
        super().__init__(f"code cell {number} (`{self.line}`): {sentence}")


def _first_line(source):
    """The first line of a cell that has something on it, cut to fit a message."""
    line = next((line.strip() for line in source.splitlines() if line.strip()), "")
    return line if len(line) <= 70 else line[:69] + "…"


def read(path):
    """The notebook in a file. Raises CourseError where there is none or it is broken."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise CourseError(f"Cannot read the notebook {common.show(path)} ({error.strerror}).") from error
    except (ValueError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise CourseError(f"{common.show(path)} is no whole notebook. Get it back from git, then try again.") from error


def write(notebook, path):
    """Write a notebook whole or not at all. Raises CourseError where the disk does not let us."""
    import nbformat

    common.write_text(path, nbformat.writes(notebook) + "\n")


def execute(notebook, folder, limit=None, on_cell=lambda done, total: None):
    """Run all code cells in a fresh kernel of this very Python; outputs are stored in `notebook` as they come.

    folder  : the working folder of the kernel.
    limit   : seconds that one cell may take; None for no bound. A kernel that dies is noticed within a second or so.
    on_cell : called with (code cells done, code cells in all) before the first cell and after each.
    Raises CellFailed at the first cell that ends in an error.
    """
    client = _client(notebook, folder, limit)
    cells = [(i, c) for i, c in enumerate(notebook.cells) if c.cell_type == "code" and c.source.strip()]
    on_cell(0, len(cells))
    with _kernel(client):
        for number, (index, cell) in enumerate(cells, 1):
            _run_cell(client, cell, index, number)
            on_cell(number, len(cells))


@contextlib.contextmanager
def _kernel(client):
    """A kernel for the length of the block. What it says about itself goes nowhere: a notebook keeps what cells say."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(client.setup_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        except RuntimeError as error:
            raise CourseError(
                "The notebooks' Python process did not start. Remove the folder .venv (make clean) and try again."
            ) from error
        try:
            yield
        except KeyboardInterrupt:
            # The end of the kernel interrupts the running cell, which closes its files; nobody awaits its outcome.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise


def _client(notebook, folder, limit):
    """An nbclient whose kernel runs in this Python, whatever kernels the user has installed elsewhere."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from traitlets import default

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python")

    class Manager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _this_python(self):
            return ThisPython(parent=self)

    logging.getLogger("traitlets").setLevel(logging.CRITICAL)  # its errors reach people as our sentences
    return NotebookClient(
        notebook,
        timeout=limit,
        kernel_name="python3",
        kernel_manager_class=Manager,
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        record_timing=False,
    )


def _run_cell(client, cell, index, number):
    """One cell; whatever goes wrong becomes a CellFailed."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        client.execute_cell(cell, index)
    except CellExecutionError as error:
        kind = "" if error.ename in ("CourseError", "CellFailed") else f"{error.ename}: "
        lines = str(error.evalue).strip().splitlines() or [""]
        raise CellFailed(number, cell.source, (kind + lines[0]).removesuffix(": ")) from None
    except CellTimeoutError:
        raise CellFailed(number, cell.source, f"it ran for more than {client.timeout / 60:.0f} minutes.") from None
    except DeadKernelError:
        raise CellFailed(
            number, cell.source, "its Python process died, most often for want of memory. Close other programs."
        ) from None


def canonical(notebook):
    """A copy in the committed form, whoever ran it and wherever: the same run gives the same bytes.

    Counts are 1..n, streams joined and without overwritten progress bars; no timestamps, no widget state. A widget's
    output keeps its plain text only: without its state, a page such as GitHub's would show an error in its place.
    """
    import nbformat

    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    number = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags" and v})
        if cell.cell_type == "code":
            number += bool(cell.source.strip())
            cell.execution_count = number if cell.source.strip() else None
            cell.outputs = [_plain(output, number) for output in _joined(cell.outputs)]
    return notebook


def _joined(outputs):
    """Outputs with neighbouring pieces of the same stream made one, as a terminal would show them."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n"))
    return joined


def _plain(output, number):
    """One output without widget data and with its cell's number."""
    output.get("data", {}).pop(WIDGET, None)
    if output.output_type == "execute_result":
        output.execution_count = number
    return output


def refresh(path, run=True):
    """Run a notebook in place and bring it into canonical form. A failure leaves the file as it was."""
    notebook = read(path)
    if run:
        try:
            execute(notebook, path.parent)
        except CellFailed as error:
            raise CourseError(f"{path.stem} stopped at {error} The file is left as it was.") from error
    write(canonical(notebook), path)


def main(arguments):
    """Refresh the notebooks named, or all of them; return the process's exit code."""
    run = "--form" not in arguments
    paths = [Path(a).absolute() for a in arguments if a != "--form"] or sorted(FOLDER.glob("[0-9]*.ipynb"))
    try:
        for path in paths:
            print(common.show(path), flush=True)
            refresh(path, run)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the notebook that was running is left as it was.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
