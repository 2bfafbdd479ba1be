"""Random values that fit a shape of a botocore service model, and what they look like after a trip over the wire."""

import random
from datetime import UTC, datetime
from typing import Any

import botocore.session
from botocore.model import ServiceModel, Shape

DEPTH_MAX = 6
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_./:+ &<>=%?*\"'é中🙂\t\n"


def service_model(name: str, version: str | None = None) -> ServiceModel:
    return botocore.session.get_session().get_service_model(name, version)


def text(chance: random.Random) -> str:
    return "".join(chance.choice(_LETTERS) for _ in range(chance.randint(1, 12)))


def value(shape: Shape, chance: random.Random, *, depth: int = 0, density: float = 0.5, stack: tuple[str, ...] = ()) -> Any:
    """Required members always, others with probability `density`; strings are never empty."""
    match shape.type_name:
        case "structure":
            if shape.name in stack or depth > DEPTH_MAX:
                return {}
            stack = (*stack, shape.name)
            made = {}
            for name, member in shape.members.items():
                if name in shape.required_members or chance.random() < density:
                    made[name] = value(member, chance, depth=depth + 1, density=density * 0.8, stack=stack)
            return made
        case "list":
            if depth > DEPTH_MAX:
                return []
            return [
                value(shape.member, chance, depth=depth + 1, density=density, stack=stack) for _ in range(chance.randint(1, 3))
            ]
        case "map":
            return {text(chance): value(shape.value, chance, depth=depth + 1, stack=stack)}
        case "string":
            return chance.choice(shape.enum) if shape.enum else text(chance)
        case "integer":
            return chance.choice([0, 1, -1, 2**31 - 1, -(2**31), chance.randint(-1000, 1000)])
        case "long":
            return chance.choice([0, 2**63 - 1, -(2**63), chance.randint(-1000, 1000)])
        case "double" | "float":
            return chance.choice([0.0, 1.5, -2.25, 1e-7, 12345.678])
        case "boolean":
            return chance.random() < 0.5
        case "blob":
            return chance.randbytes(chance.randint(1, 20))
        case "timestamp":
            return datetime.fromtimestamp(chance.randint(0, 2**32), UTC)
    raise AssertionError(shape.type_name)


def received(sent: Any) -> Any:
    """What the parser should make of `sent`: empty things cannot be told from absent ones, times are seconds."""
    if isinstance(sent, dict):
        made = {name: received(item) for name, item in sent.items()}
        return {name: item for name, item in made.items() if item not in ({}, [], "")}
    if isinstance(sent, list):
        return [item for item in (received(item) for item in sent) if item not in ({}, [])]
    if isinstance(sent, datetime):
        return sent.timestamp()
    return sent


def answered(value: Any) -> Any:
    """Times as seconds, as operations answer them."""
    if isinstance(value, dict):
        return {name: answered(item) for name, item in value.items()}
    if isinstance(value, list):
        return [answered(item) for item in value]
    if isinstance(value, datetime):
        return value.timestamp()
    return value
