"""Digest of the code of functions and of everything that they use.

The digest covers the syntax trees of all definitions that the functions use, also in imported modules. It ignores
docstrings, comments, annotations, imports, error and progress messages, descriptions and module names. Rewording a
text or moving a definition to another module therefore keeps the digest.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DESCRIPTIONS = {"description", "why", "unit"}
"""Keyword arguments to ignore, because they contain descriptions."""
DESCRIBED = {"Column": slice(2, 4), "Metric": slice(0, 2)}
"""Positional arguments to ignore, by class name, because they contain descriptions."""
MESSAGES = {"progress", "LOG"}
"""Names of functions and loggers whose calls are ignored, because they only report messages."""

Definition = tuple[str, str]
"""Name of a module, and name of a definition in it. The second name is empty if the module itself is meant."""


def code_digest(functions: Iterable[Callable[..., Any]], without: Iterable[Callable[..., Any]] = ()) -> str:
    """Return the SHA-256 of all definitions that functions use, directly or indirectly.

    The search for definitions covers this package and the packages of the functions. Definitions in other libraries
    are not included; `library_versions` records the versions of these libraries.

    Parameters
    ----------
    functions
        Functions or classes, in any order. For a closure, the function that returns it is digested.
    without
        Functions or classes to exclude, together with definitions that only they use.
    """
    roots = {_definition(function) for function in functions}
    packages = frozenset({_package(module) for module, _ in roots} | {_package(__name__)})
    left_out = {_definition(function) for function in without}
    found: set[Definition] = set()
    new = roots - left_out
    while new:
        found |= new
        uses = {use for module, name in new for use in _module(module, packages).uses(name)}
        new = {use for use in uses if _package(use[0]) in packages} - found - left_out
    texts = sorted({_module(module, packages).text(name) for module, name in found})
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _package(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def _definition(function: Any) -> Definition:
    while isinstance(function, partial):
        function = function.func
    return function.__module__, function.__qualname__.split(".")[0]


@dataclass(frozen=True)
class _Module:
    """Definitions and imports of a module.

    Attributes
    ----------
    name
        Full name of the module.
    definitions
        Statements that define each name, stripped of everything that the digest ignores.
    imports
        Imported definitions, by their names in this module.
    """

    name: str
    definitions: Mapping[str, tuple[ast.stmt, ...]]
    imports: Mapping[str, Definition]

    def text(self, name: str) -> str:
        """Return the syntax tree of a definition as text; empty if the module does not define the name."""
        return "\n".join(ast.dump(one) for one in self.definitions.get(name, ()))

    def uses(self, name: str) -> Iterator[Definition]:
        """Yield the definitions to which a definition refers. For an imported name, yield the imported definition."""
        if name in self.definitions:
            nodes = (node for statement in self.definitions[name] for node in ast.walk(statement))
            for node in nodes:
                if isinstance(node, _Member):
                    yield node.target
                elif isinstance(node, ast.Name) and node.id in self.definitions:
                    yield self.name, node.id
                elif isinstance(node, ast.Name) and node.id in self.imports:
                    yield self.imports[node.id]
        elif name in self.imports:
            yield self.imports[name]


# The cache of `_parsed` uses the module's text as key, because the file can change while the process runs.
def _module(name: str, packages: frozenset[str]) -> _Module:
    spec = find_spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return _Module(name, {}, {})
    return _parsed(name, Path(spec.origin).read_text(encoding="utf-8"), packages)


@lru_cache(maxsize=128)
def _parsed(name: str, text: str, packages: frozenset[str]) -> _Module:
    tree = ast.parse(text)
    imports = dict(_imports(tree, packages))
    strip = _Strip(imports)
    definitions: dict[str, tuple[ast.stmt, ...]] = {}
    for statement in _statements(tree.body):
        if names := list(_defined(statement)):
            stripped = strip.visit(statement)
            definitions |= {one: (*definitions.get(one, ()), stripped) for one in names}
    return _Module(name, definitions, imports)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If | ast.Try):
            yield from () if _is_for_types(statement) else _statements(statement.body)
            yield from _statements(statement.orelse)
        else:
            yield statement


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def _imports(tree: ast.AST, packages: frozenset[str]) -> Iterator[tuple[str, Definition]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module and _package(node.module) in packages:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                target = (submodule, "") if _is_module(submodule) else (node.module, alias.name)
                yield alias.asname or alias.name, target
        elif not _is_for_types(node):
            yield from _imports(node, packages)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        # `find_spec` raises if the parent of the name is a module instead of a package.
        return False


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


class _Member(ast.Name):
    """An attribute of a module, `module.name`, reduced to its name."""

    target: Definition


class _Strip(ast.NodeTransformer):
    """Remove everything that the digest ignores; see the module's docstring."""

    def __init__(self, imports: Mapping[str, Definition]) -> None:
        self._imports = imports

    def visit_Import(self, node: ast.Import) -> None:
        """Remove the import."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Remove the import."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Remove the annotation."""
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Remove the return annotation."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Remove the annotation."""
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Remove docstrings, and calls that only report messages."""
        if isinstance(node.value, ast.Constant):
            return None
        called = node.value.func if isinstance(node.value, ast.Call) else None
        called = called.value if isinstance(called, ast.Attribute) else called
        return None if isinstance(called, ast.Name) and called.id in MESSAGES else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        """Keep only the class of the exception."""
        return ast.Raise(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Remove descriptions."""
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in DESCRIPTIONS]
        if isinstance(node.func, ast.Name) and node.func.id in DESCRIBED:
            del node.args[DESCRIBED[node.func.id]]
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Reduce `module.name` to the name."""
        module = self._imports.get(node.value.id, ("", "")) if isinstance(node.value, ast.Name) else ("", "")
        if module[0] and not module[1]:
            member = _Member(node.attr, node.ctx)
            member.target = module[0], node.attr
            return member
        return self.generic_visit(node)
