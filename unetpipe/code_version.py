"""Fingerprint the source of a stage, so that a workflow engine sees package edits.

To read all modules takes a second, and each job of a workflow asks anew: so what was
found is kept beside Python's own caches, by the bytes of each file.
"""

import ast
import hashlib
import json
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = "unetpipe"
# The way to read that this process has: taken at once, before anybody edits the file.
WAY = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
# Modules without arithmetic: editing them must not redo a result. What a user sets
# reaches a stage as its parameters, so the module that checks it does not count.
SILENT = frozenset(
    f"{ROOT}.{name}"
    for name in (
        *("claims", "code_version", "config", "errors", "history", "logs"),
        *("keeping", "machine", "problems", "progress", "records", "signals"),
    )
) | {ROOT}
LOGGING = frozenset(
    {"debug", "info", "warning", "error", "exception", "critical", "log", "warn"}
)


def code_versions(*modules: str) -> dict[str, str]:
    """Hash every first-party module that the given ones import, themselves included.

    Comments, docstrings, log lines and the texts of raised errors do not count:
    editing them must not retrain a network.

    Parameters
    ----------
    *modules : str
        Dotted names, e.g. ``unetpipe.stages.train_unet``.

    Returns
    -------
    dict
        Module name -> first 8 hex digits of a sha256, sorted by name.

    Raises
    ------
    ModuleNotFoundError
        If a name is no module of this package.
    """
    versions: dict[str, str] = {}
    seen: set[str] = set()
    pending = list(modules)
    for name in modules:
        if _source_path(name) is None:
            raise ModuleNotFoundError(f"{name} is no module of {ROOT}")
    while pending:
        name = pending.pop()
        path = _source_path(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        versions[name], imported = _fingerprint(path)
        pending += imported
    _findings().keep()
    return {name: versions[name] for name in sorted(seen) if not _is_silent(name)}


def script_version(path: Path) -> str:
    """Return the fingerprint of a script, which counts as the modules' do."""
    return _fingerprint(path)[0]


def _is_silent(name: str) -> bool:
    return name in SILENT or name.startswith(f"{ROOT}.config.")


@cache
def _fingerprint(path: Path) -> tuple[str, tuple[str, ...]]:
    version, *imported = _findings().of(path.read_bytes())
    return version, tuple(imported)


def _read(source: bytes) -> list[str]:
    """Return the fingerprint of a file, then what it imports of the package."""
    tree = ast.parse(source)
    imported = sorted(i for i in _imports(tree) if i.split(".")[0] == ROOT)
    text = ast.dump(_Silencer().visit(tree))
    return [hashlib.sha256(text.encode()).hexdigest()[:9], *imported]


class _Findings:
    """What was found in files, by the sha256 of their bytes, kept for other processes.

    Another Python, or another way to read, finds other things: the name says which.
    """

    def __init__(self) -> None:
        name = f"code_version.{sys.implementation.cache_tag}.{WAY}.json"
        self._path = Path(__file__).parent / "__pycache__" / name
        self._found: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, TypeError):
            self._found = dict(json.loads(self._path.read_bytes()))
        self._num_kept = len(self._found)

    def of(self, source: bytes) -> list[str]:
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


@cache
def _source_path(name: str) -> Path | None:
    base = Path(__file__).parent.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if name.split(".")[0] == ROOT and path.is_file():
            return path
    return None


def _imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


class _Silencer(ast.NodeTransformer):
    """Take out what is only said: docstrings, log lines, texts of errors.

    They go without a trace, so that the first log line of a module changes nothing
    either.
    """

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        if isinstance(node.value, ast.Call) and _called(node.value) in LOGGING:
            return None
        return self.generic_visit(node)

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


def _has_effect(test: ast.expr) -> bool:
    effects = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return any(isinstance(node, effects) for node in ast.walk(test))
