"""Running notebooks in this very Python, and the one form in which they are committed.

python tools/run_notebooks.py [FILE ...]          run in place, then bring into canonical form
python tools/run_notebooks.py --form [FILE ...]   the form alone, nothing is run
"""

import copy
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

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
    """A code cell that ended in an error. Its number counts code cells from 1, as `[n]:` beside the cell does."""


def read(path: Path) -> NotebookNode:
    """Read the notebook in a file. Raises CourseError where there is none or it is broken."""
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise CourseError(f"Cannot read the notebook {common.show(path)} ({error.strerror}).") from error
    except (ValueError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise CourseError(f"{common.show(path)} is no whole notebook. Get it back from git, then try again.") from error


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all. Raises CourseError where the disk does not let us."""
    common.write_text(path, nbformat.writes(notebook) + "\n")


def execute(
    notebook: NotebookNode,
    folder: Path,
    limit: float | None = None,
    on_cell: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Run all code cells in a fresh kernel of this very Python; outputs are stored in `notebook` as they come.

    folder  : the working folder of the kernel.
    limit   : seconds that one cell may take; None for no bound. A kernel that dies is noticed within a second or so.
    on_cell : called with (code cells done, code cells in all) before the first cell and after each.
    Raises CellFailed at the first cell that ends in an error.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    logging.getLogger("traitlets").setLevel(logging.CRITICAL)  # its errors reach people as our sentences
    # No folder of kernels: whatever the user has installed elsewhere, python3 is then this Python.
    kernels = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    about = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, km=kernels, timeout=limit, resources=about, store_widget_state=False, record_timing=False
    )
    cells = [(i, c) for i, c in enumerate(notebook.cells) if c.cell_type == "code" and c.source.strip()]
    on_cell(0, len(cells))
    # What the kernel says about itself goes nowhere: a notebook keeps what its cells say.
    with client.setup_kernel(cleanup_kc=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        try:
            for number, (index, cell) in enumerate(cells, 1):
                _run_cell(client, cell, index, number)
                on_cell(number, len(cells))
        except KeyboardInterrupt:
            # The end of the kernel interrupts the running cell, which closes its files; nobody awaits its outcome.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise


def _run_cell(client, cell, index, number):
    """One cell; whatever goes wrong becomes a CellFailed."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        client.execute_cell(cell, index)
        return
    except CellExecutionError as error:
        lines = str(error.evalue).strip().splitlines() or [""]
        kind = "" if error.ename == "CourseError" else f"{error.ename}: "
        sentence = (kind + lines[0]).removesuffix(": ")
    except CellTimeoutError:
        sentence = f"it ran for more than {client.timeout / 60:.0f} minutes."
    except DeadKernelError:
        sentence = "its Python process died, most often for want of memory. Close other programs."
    line = next(line.strip() for line in cell.source.splitlines() if line.strip())
    raise CellFailed(f"code cell {number} (`{line if len(line) <= 70 else line[:69] + '…'}`): {sentence}")


def canonical(notebook: NotebookNode) -> NotebookNode:
    """Copy a notebook into the committed form, whoever ran it and wherever: the same run gives the same bytes.

    Counts are 1..n, streams joined and without overwritten progress bars; no timestamps, no widget state. A widget's
    output keeps its plain text only: without its state, a page such as GitHub's would show an error in its place.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    number = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags" and v})
        if cell.cell_type != "code":
            continue
        number += bool(cell.source.strip())
        cell.execution_count = number if cell.source.strip() else None
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
            if output.output_type == "execute_result":
                output.execution_count = number
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


def main(arguments: list[str]) -> int:
    """Refresh the notebooks named, or all; return the process's exit code. A failure leaves a file as it was."""
    paths = [Path(a).absolute() for a in arguments if a != "--form"] or sorted(FOLDER.glob("[0-9]*.ipynb"))
    try:
        for path in paths:
            print(common.show(path), flush=True)
            notebook = read(path)
            if "--form" not in arguments:
                execute(notebook, path.parent)
            write(canonical(notebook), path)
    except (CourseError, KeyboardInterrupt) as error:
        print(f"{path.stem} stopped and is left as it was: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
