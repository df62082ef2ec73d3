"""What a student sees of an exercise, and what solves it.

Knows: where stubs and solutions stand. Does not know: the checks.
"""

import ast
import runpy

import run_notebooks


def stubs_of(notebook):
    """{name: function} of what stands under "Your turn" in a notebook, as its author wrote it."""
    cells = run_notebooks.read(run_notebooks.FOLDER / f"{notebook}.ipynb").cells
    start = next(i for i, c in enumerate(cells) if c.cell_type == "markdown" and "## Your turn\n" in c.source)
    found = {}
    for cell in cells[start:]:
        if cell.cell_type == "code":
            functions = [node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
            exec(compile(ast.Module(functions, []), notebook, "exec"), found)
    return {name: value for name, value in found.items() if name != "__builtins__"}


def solutions_of(notebook):
    """{name: function} of a notebook's solutions."""
    return runpy.run_path(str(run_notebooks.FOLDER / "solutions" / f"{notebook}.py"))
