"""The error codes that an operation can answer, read from the syntax trees of what its code reaches.

For `docs/reference/coverage.md`. A function reaches what its module's names lead to, within the modules named here; a code
that is computed is not seen. Nothing is run.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache, partial
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from alto.api.call import Operation
from alto.api.ec2.absent_kinds import Kind
from alto.api.ec2.errors import to_wire
from alto.model.errors import AlreadyExists, CapacityExceeded, NoCapacity, NotFound

ROOMS = ("alto.api.ec2", "alto.api.sts", "alto.api.accounts", "alto.plan", "alto.store.claims")
# Of the gateway, which every operation goes through.
GENERAL = frozenset({"InvalidParameterValue", "MissingParameter", "UnsupportedOperation"})


class _Own(NamedTuple):
    """Of one function or module-level value: what it says itself, and the names it mentions."""

    errors: frozenset[str]
    mentions: frozenset[str]


def errors_of(operation: Operation) -> frozenset[str]:
    errors: set[str] = set()
    run = operation.run.func if isinstance(operation.run, partial) else operation.run
    assert isinstance(run, FunctionType)
    seen = {(run.__module__, run.__name__)}
    todo = list(seen)
    while todo:
        module, name = todo.pop()
        own = _module(module).get(name)
        if own is None:
            continue
        errors |= own.errors
        for place in _places(module, own.mentions):
            if place not in seen:
                seen.add(place)
                todo.append(place)
    if isinstance(operation.run, partial):
        errors |= {one.absent.code for one in operation.run.args if isinstance(one, Kind) and one.absent is not None}
    return frozenset(errors - GENERAL)


def _places(module: str, mentions: frozenset[str]) -> Iterator[tuple[str, str]]:
    names = vars(importlib.import_module(module))
    for mention in mentions:
        first, _, rest = mention.partition(".")
        found: Any = names.get(first)
        if isinstance(found, ModuleType) and rest:
            module_of, name = found.__name__, rest.partition(".")[0]
        elif inspect.isfunction(found) or inspect.isclass(found):
            module_of, name = found.__module__, found.__name__
        elif first in _module(module):
            module_of, name = module, first
        else:
            # A value of another module, imported by name.
            module_of, name = _imports(module).get(first, ""), first
        if module_of.startswith(ROOMS):
            yield module_of, name


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(importlib.import_module(module)))


@cache
def _imports(module: str) -> dict[str, str]:
    return {
        alias.asname or alias.name: node.module
        for node in _tree(module).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


@cache
def _module(module: str) -> dict[str, _Own]:
    found: dict[str, _Own] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = _own(node, module)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    found[target.id] = _own(node.value, module)
    return found


def _own(root: ast.AST, module: str) -> _Own:
    errors: set[str] = set()
    mentions: set[str] = set()
    for node in ast.walk(root):
        if isinstance(node, ast.Name):
            mentions.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            mentions.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call):
            errors |= set(_codes(node, module))
    return _Own(frozenset(errors), frozenset(mentions))


def _codes(call: ast.Call, module: str) -> Iterator[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name == "Refused" and call.args:
        for node in ast.walk(call.args[0]):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    elif name == "NoCapacity":
        yield to_wire(NoCapacity("")).code
    elif name == "CapacityExceeded":
        yield to_wire(CapacityExceeded("")).code
    elif name in ("NotFound", "owned", "all_owned", "get", "page_of_own"):
        for argument in call.args:
            kind = _kind(argument, module)
            if kind is not None:
                yield to_wire(NotFound(kind, "x")).code
    elif name == "AlreadyExists" and call.args and (kind := _kind(call.args[0], module)) is not None:
        yield to_wire(AlreadyExists(kind, "x")).code


def _kind(argument: ast.expr, module: str) -> str | None:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    if isinstance(argument, ast.Attribute) and argument.attr == "KIND":
        argument = argument.value
    if isinstance(argument, ast.Name):
        kind = getattr(vars(importlib.import_module(module)).get(argument.id), "KIND", None)
        return kind if isinstance(kind, str) else None
    return None
