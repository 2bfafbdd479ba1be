"""Which of AWS's parameters an operation honours, read from its request struct.

A parameter that AWS knows and the struct does not name must be refused: a user who sets it would believe that it took
effect. Structs name parameters with the service model's member names.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

Honoured = dict[str, "Honoured | None"]
"""Member name to what is honoured within it; None: whatever it holds."""


def honoured(request: type[msgspec.Struct]) -> Honoured:
    found = _within(inspect.type_info(request), {})
    assert found is not None
    return found


def _within(info: inspect.Type, known: dict[type, Honoured]) -> Honoured | None:
    match info:
        case inspect.StructType(cls=cls, fields=fields):
            if cls not in known:
                known[cls] = {}  # before its fields: structs may contain themselves
                for field in fields:
                    known[cls][field.encode_name] = _within(field.type, known)
            return known[cls]
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return _within(item, known)
        case inspect.UnionType(types=types):
            return next((inner for inner in (_within(type, known) for type in types) if inner is not None), None)
    return None


def unhonoured(known: Honoured, parameters: Mapping[str, Any]) -> str | None:
    """The path of the first parameter that `known` does not have."""
    for name, value in parameters.items():
        if name not in known:
            return name
        inner = known[name]
        if inner is None:
            continue
        elements = value if isinstance(value, list) else [value]
        for element in elements:
            if isinstance(element, dict):
                found = unhonoured(inner, element)
                if found is not None:
                    return f"{name}.{found}"
    return None
