"""Which imported things a piece of code uses, and whether they exist in the installed versions.

Knows: imports, attributes of modules and classes, names of arguments. Does not know: what a function returns,
so nothing that is used of an object is looked at.
"""

import ast
import importlib
import inspect
from types import ModuleType


class Names(ast.NodeVisitor):
    """Follows imported names through one cell after another.

    known      : what each imported name is; a name that is bound to something else is taken out.
    complaints : one sentence for each thing that does not exist.
    """

    def __init__(self, known=()):
        self.known, self.complaints = dict(known), []

    def visit_Import(self, node):
        for alias in node.names:
            top = alias.name.split(".")[0]
            if self._module(alias.name):
                self.known[alias.asname or top] = importlib.import_module(alias.name if alias.asname else top)

    def visit_ImportFrom(self, node):
        module = self._module(node.module)
        for alias in node.names if module else ():
            if not hasattr(module, alias.name) and not _has_module(f"{node.module}.{alias.name}"):
                self._complain(f"{node.module}.{alias.name}")
            else:
                self.known[alias.asname or alias.name] = getattr(module, alias.name)

    def visit_Assign(self, node):
        self.visit(node.value)  # before the names on the left mean something else
        for target in node.targets:
            self.visit(target)

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.known.pop(node.id, None)

    def visit_FunctionDef(self, node):
        self.known.pop(node.name, None)
        self._inside(node, [a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)])

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node):
        self._inside(node, [a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)])

    def _comprehension(self, node):
        stored = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        self._inside(node, stored)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _inside(self, node, bound):
        """A scope of its own: what is bound there hides what was imported, and only there."""
        inner = Names({name: value for name, value in self.known.items() if name not in bound})
        inner.generic_visit(node)
        self.complaints += inner.complaints

    def visit_Attribute(self, node):
        self._resolve(node)
        self.generic_visit(node)

    def visit_Call(self, node):
        takes = self._parameters(node.func)
        for keyword in node.keywords:
            if takes is not None and keyword.arg and keyword.arg not in takes:
                self._complain(f"{ast.unparse(node.func)}({keyword.arg}=…)")
        self.generic_visit(node)

    def _parameters(self, function):
        """The names that a function takes; None where it takes any, or is not known."""
        target = self._resolve(function, quietly=True)
        try:
            parameters = inspect.signature(target).parameters if callable(target) else {}
        except (TypeError, ValueError):  # built in, without a signature
            return None
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        return None if anything or not parameters else set(parameters)

    def _resolve(self, node, quietly=False):
        """What an attribute chain on an imported name is; None where it cannot be known without running it."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        owner = self._resolve(node.value, quietly=True) if isinstance(node, ast.Attribute) else None
        if not isinstance(owner, ModuleType | type):
            return None
        found = getattr(owner, node.attr, None)
        # A class may give its instances more than it has itself; only a module is sure to have all.
        if found is None and isinstance(owner, ModuleType) and not hasattr(owner, node.attr) and not quietly:
            self._complain(f"{owner.__name__}.{node.attr}")
        return found

    def _module(self, name):
        if not _has_module(name):
            self._complain(name)
            return None
        return importlib.import_module(name)

    def _complain(self, what):
        self.complaints.append(f"{what} does not exist in the version installed: see its documentation")


def _has_module(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
