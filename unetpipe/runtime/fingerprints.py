"""Fingerprint what code does, so that a workflow engine sees edits of the package.

A fingerprint goes by content: from a stage it walks the definitions (functions,
classes, constants) that it reaches, wherever they stand, and hashes what they do. Where
a definition lies, which module has it, how import lines are written, comments, types of
arguments, log lines and texts of errors are no part of it, nor is the minor version of
Python: so moving a module redoes nobody's work.

::

    file --_read--> definitions, each with its hash and the names it uses
         --_Walk--> the definitions reached from the entries
         --------> one sha256

To read all modules takes a second, and each job of a workflow asks anew: so what was
found is kept beside Python's own caches, by the bytes of each file.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

Names = tuple[str, ...]
ROOT = "unetpipe"
PACKAGE = Path(__file__).parents[1]
# The way to read that this process has: taken at once, before anybody edits the file.
WAY = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
# Rooms and modules without arithmetic: editing them must not redo a result. What a user
# sets reaches a stage as its parameters, so the room that checks it does not count.
SILENT = frozenset(
    f"{ROOT}.{name}"
    for name in (
        *("runtime", "config", "records", "errors"),
        *("storage.keeping", "training.history"),
    )
)
LOGGING = frozenset(
    {"debug", "info", "warning", "error", "exception", "critical", "log", "warn"}
)
UNTOLD = ("ctx", "type_comment", "kind")  # fields of a tree that say nothing more
ALWAYS = ""  # the name of what a module does when it is imported


@cache
def code_fingerprint(*entries: str, rooms: Names = (), without: Names = ()) -> str:
    """Hash every definition of the package that the given ones reach.

    Parameters
    ----------
    *entries : str
        Dotted names of modules, e.g. ``unetpipe.stages.train_unet``, or of
        definitions in them.
    rooms : tuple of str
        Dotted names of the only rooms to look into; all where it is empty.
    without : tuple of str
        Dotted names of rooms and modules to leave out, besides the silent ones.

    Returns
    -------
    str
        The first 16 hex digits of a sha256.

    Raises
    ------
    ModuleNotFoundError
        If a name is no module of this package, nor a definition of one.
    """
    walk = _Walk(rooms, SILENT.union(without))
    for entry in entries:
        walk.enter(entry)
    _findings().keep()
    return _digest(sorted(walk.hashes()))


def script_fingerprint(path: Path) -> str:
    """Return the fingerprint of a script, which counts as the modules' do."""
    found = _module(path)
    return _digest([[n, d.text, d.uses] for n, d in sorted(found.definitions.items())])


@dataclass(frozen=True)
class _Definition:
    """What a definition does, and the names that it uses.

    Attributes
    ----------
    text : str
        Hash of what is written.
    uses : list of str
        Dotted names, from the package or library on; ``.name`` is one of its own
        module.
    """

    text: str
    uses: list[str]


@dataclass(frozen=True)
class _Module:
    """The definitions of one file; what it imports, by the name it has there."""

    definitions: dict[str, _Definition]
    imports: dict[str, str]


@dataclass
class _Walk:
    """From definition to definition, by the names that they use."""

    rooms: Names
    without: frozenset[str]
    _seen: dict[tuple[str, str], _Definition] = field(default_factory=dict)

    def enter(self, entry: str) -> None:
        """Walk from a module or a definition."""
        module, rest = _split(entry)
        if module is None or (rest and rest[0] not in _module_of(module).definitions):
            raise ModuleNotFoundError(f"{entry} is no module of {ROOT}")
        pending = list(_targets(entry))
        while pending:
            target = pending.pop()
            if target in self._seen or not self._counts(target[0]):
                continue
            found = _module_of(target[0]).definitions
            self._seen[target] = found[target[1]]
            if ALWAYS in found:
                pending.append((target[0], ALWAYS))
            for name in found[target[1]].uses:
                pending += _targets(_absolute(name, target[0]))

    def hashes(self) -> Iterator[str]:
        """Yield what each definition does, with what its names stand for."""
        for (module, _), definition in self._seen.items():
            meant = {
                name: self._meaning(_absolute(name, module)) for name in definition.uses
            }
            yield _digest([definition.text, *sorted(meant.values())])

    def _meaning(self, name: str) -> str:
        """Return the text that a name stands for, or the name of a library's thing."""
        if name.split(".")[0] != ROOT:
            return name
        return _digest(
            sorted(
                _module_of(module).definitions[key].text
                for module, key in _targets(name)
                if self._counts(module)
            )
        )

    def _counts(self, module: str) -> bool:
        def within(rooms: Iterable[str]) -> bool:
            return any(module == r or module.startswith(f"{r}.") for r in rooms)

        return not within(self.without) and (not self.rooms or within(self.rooms))


def _absolute(name: str, module: str) -> str:
    return f"{module}{name}" if name.startswith(".") else name


@cache
def _targets(name: str) -> tuple[tuple[str, str], ...]:
    """Return the definitions, as (module, name), that a dotted name stands for.

    A name that a module only hands on is followed to where it is defined. A module
    that is used as a whole stands for all that it defines and hands on.
    """
    module, rest = _split(name)
    if module is None:
        return ()
    found = _module_of(module)
    if rest and rest[0] in found.definitions:
        return ((module, rest[0]),)
    if rest and rest[0] in found.imports:
        return _targets(".".join((found.imports[rest[0]], *rest[1:])))
    inside = [(module, key) for key in found.definitions]
    if not inside:  # a room that only hands on
        inside = [t for name in found.imports.values() for t in _targets(name)]
    return tuple(inside)


def _split(name: str) -> tuple[str | None, list[str]]:
    """Split a dotted name into the longest module of the package and the rest."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if _source_path(module) is not None:
            return module, parts[length:]
    return None, parts


@cache
def _source_path(name: str) -> Path | None:
    if name.split(".")[0] != ROOT:
        return None
    base = PACKAGE.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _module_of(name: str) -> _Module:
    path = _source_path(name)
    assert path is not None
    return _module(path)


@cache
def _module(path: Path) -> _Module:
    found = _findings().of(path.read_bytes())
    definitions = {n: _Definition(*d) for n, d in found["definitions"].items()}
    return _Module(definitions, found["imports"])


class _Findings:
    """What was found in files, by the sha256 of their bytes, kept for other processes.

    Another way to read finds other things: the name says which.
    """

    def __init__(self) -> None:
        name = f"fingerprints.{sys.implementation.cache_tag}.{WAY}.json"
        self._path = Path(__file__).parent / "__pycache__" / name
        self._found: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError, TypeError):
            self._found = dict(json.loads(self._path.read_bytes()))
        self._num_kept = len(self._found)

    def of(self, source: bytes) -> dict[str, Any]:
        """Return what is found in a file with these bytes."""
        digest = hashlib.sha256(source).hexdigest()
        if digest not in self._found:
            self._found[digest] = _read(source)
        return self._found[digest]

    def keep(self) -> None:
        """Write down what is new; a disk that refuses is no error."""
        if len(self._found) == self._num_kept:
            return
        staged = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            staged.write_text(json.dumps(self._found))
            staged.replace(self._path)
        self._num_kept = len(self._found)


@cache
def _findings() -> _Findings:
    return _Findings()


def _read(source: bytes) -> dict[str, Any]:
    """Return the definitions of a file, and what it imports."""
    tree = _Silencer().visit(ast.parse(source))
    imports = _imported(tree)
    parts: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _defined(statement):
            parts.setdefault(name, []).append(statement)
    parts.pop("__all__", None)
    definitions = {}
    for name, statements in parts.items():
        kept = [s for s in map(_without_imports, statements) if s is not None]
        if kept:
            here = {**imports, **_imported(*statements)}
            uses = sorted(set(_uses(kept, here, parts.keys())))
            definitions[name] = [_digest([_text(s) for s in kept]), uses]
    return {"definitions": definitions, "imports": imports}


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement of a module defines."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [statement.name]
        case ast.Assign(targets=targets):
            return [n for t in targets for n in _stored(t)] or [ALWAYS]
        case (
            ast.AnnAssign(target=ast.Name(id=name))
            | ast.AugAssign(target=ast.Name(id=name))
        ):
            return [name]
        case ast.Import() | ast.ImportFrom():
            return []
    return [ALWAYS]


def _stored(target: ast.expr) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _imported(*trees: ast.AST) -> dict[str, str]:
    """Return what import lines give a name to: local name to dotted name."""
    names: dict[str, str] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.split(".")[0]
                    names[local] = alias.name if alias.asname else local
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    local = alias.asname or alias.name
                    names[local] = f"{node.module or ''}.{alias.name}"
    return names


def _uses(
    statements: list[ast.stmt], imports: dict[str, str], own: Any
) -> Iterator[str]:
    """Yield the dotted names from elsewhere, or of the module, that are used."""
    inner: set[int] = set()
    for node in (n for s in statements for n in ast.walk(s)):
        if id(node) in inner or not isinstance(node, ast.Name | ast.Attribute):
            continue
        chain, below = [], node
        while isinstance(below, ast.Attribute):
            chain.append(below.attr)
            below = below.value  # type: ignore[assignment]
            inner.add(id(below))
        if not isinstance(below, ast.Name):
            continue
        rest = chain[::-1]
        if below.id in imports:
            yield ".".join((imports[below.id], *rest))
        elif below.id in own:
            yield f".{below.id}"


def _without_imports(statement: ast.stmt) -> ast.stmt | None:
    """Take import lines out of a statement; None where nothing is left to do."""
    cleared = _Importless().visit(statement)
    if isinstance(cleared, ast.If | ast.Try):
        bodies = [cleared.body, cleared.orelse]
        if not any(bodies) and not _has_effect(getattr(cleared, "test", None)):
            return None
    return cleared if isinstance(cleared, ast.stmt) else None


class _Importless(ast.NodeTransformer):
    """Take out import lines, wherever they stand."""

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None


class _Silencer(ast.NodeTransformer):
    """Take out what is only said: docstrings, log lines, texts of errors, types.

    They go without a trace, so that the first log line of a module changes nothing
    either. Types of arguments and of local variables go too; those of a class's
    fields stay, since they make the class.
    """

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        if isinstance(node.value, ast.Call) and _called(node.value) in LOGGING:
            return None
        return self.generic_visit(node)

    def __init__(self) -> None:
        self._in_function = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for inner in ast.walk(node.args):
            if isinstance(inner, ast.arg):
                inner.annotation = None
        return self._visit_inside(node, in_function=True)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._visit_inside(node, in_function=False)

    def _visit_inside(self, node: ast.AST, *, in_function: bool) -> ast.AST:
        outside, self._in_function = self._in_function, in_function
        node = self.generic_visit(node)
        self._in_function = outside
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if not self._in_function:
            return self.generic_visit(node)
        if node.value is None:
            return None
        plain = ast.Assign(targets=[node.target], value=node.value)
        return self.generic_visit(plain)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        is_idle = not node.body and not node.orelse
        return None if is_idle and not _has_effect(node.test) else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        is_logger = isinstance(node.value, ast.Call) and (
            _called(node.value) == "getLogger"
        )
        return None if is_logger else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return None if [alias.name for alias in node.names] == ["logging"] else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(exc=None, cause=None)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _has_effect(test: ast.expr | None) -> bool:
    if test is None:
        return False
    effects = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return any(isinstance(node, effects) for node in ast.walk(test))


def _text(node: Any) -> Any:
    """Return a syntax tree as plain lists, the same under every version of Python.

    Fields that are empty are left out, since versions add some; an f-string's constant
    texts are joined, since versions cut them at different places.
    """
    if isinstance(node, ast.Constant):
        return ["Constant", repr(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _joined(node.values)]
    if isinstance(node, ast.AST):
        fields = [
            [name, _text(value)]
            for name, value in ast.iter_fields(node)
            if value is not None and value != [] and name not in UNTOLD
        ]
        return [type(node).__name__, *sorted(fields, key=lambda pair: pair[0])]
    if isinstance(node, list):
        return [_text(item) for item in node]
    return repr(node)


def _joined(values: list[ast.expr]) -> list[Any]:
    """Return the parts of an f-string, constant ones that touch as one."""
    joined: list[Any] = []
    for value in values:
        if not isinstance(value, ast.Constant):
            joined.append(_text(value))
        elif joined and isinstance(joined[-1], str):
            joined[-1] += str(value.value)
        elif value.value:
            joined.append(value.value)
    return joined


def _digest(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
