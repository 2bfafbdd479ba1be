"""From a form or query string to the parameters of an operation, in one pass down a tree made from the service model.

`Filter.1.Value.2=x` becomes {"Filters": [{"Values": ["x"]}]}: member names as in the model, lists in the order of their
indices, which may begin anywhere and have holes (libcloud counts from 0), or a lone value without one. Empty values count as
absent, as Terraform's older SDK needs, except where empty says something (a tag's value) and in lists: who asks for the
instance "" must not be answered with all of them. Unknown parameters are refused, so that nobody believes that a flag took
effect. Enumerations, lengths and ranges are not judged here: operations know better.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from alto.api.wire.models import Service
from alto.model.errors import Refused

PARAMETERS_MAX = 10_000  # EC2's longest documented lists have 1,000 entries
STEPS_MAX = 24  # dots in a name; the deepest of EC2 has 9
INDEX_DIGITS_MAX = 9

# (structure, member): where an empty text is a value of its own.
_EMPTY_COUNTS = {
    ("Tag", "Value"),
    ("AttributeValue", "Value"),  # no description any more
    ("BlobAttributeValue", "Value"),  # no user data any more
    ("SecureBlobAttributeValue", "Value"),  # the same, as newer models name it
    ("ModifyInstancePlacementRequest", "GroupName"),  # out of its group
    ("BlockDeviceMapping", "NoDevice"),  # the image's device is left out
    ("LaunchTemplateBlockDeviceMappingRequest", "NoDevice"),
}

# What old clients call a parameter, and EC2 still understands: boto 2, and what was built on it, names one instance as a list.
_OLD_NAMES = {"GetConsoleOutput": {"InstanceId.1": "InstanceId"}}

# Not allowed in XML 1.0 at all, so no answer could ever show it again.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def decode_form(text: str) -> list[tuple[str, str]]:
    """Pairs of an application/x-www-form-urlencoded text, in order. Raises: Refused."""
    if text.count("&") >= PARAMETERS_MAX:
        raise Refused("MalformedQueryString", f"The request has more than {PARAMETERS_MAX} parameters")
    pieces = [piece.partition("=") for piece in text.split("&") if piece]
    if "%" not in text and "+" not in text:
        return [(name, value) for name, _, value in pieces]
    try:
        return [(_unquoted(name), _unquoted(value)) for name, _, value in pieces]
    except UnicodeDecodeError:
        raise Refused("MalformedQueryString", "The request is not valid UTF-8") from None


def _unquoted(text: str) -> str:
    return unquote(text.replace("+", " "), errors="strict")


class _Leaf:
    __slots__ = ("convert", "keeps_empty")

    def __init__(self, convert: Callable[[str, str], object], keeps_empty: bool) -> None:
        self.convert = convert
        self.keeps_empty = keeps_empty


class _Structure:
    __slots__ = ("members", "required")

    def __init__(self, required: tuple[tuple[str, str], ...]) -> None:
        self.members: dict[str, tuple[str, _Node]] = {}
        self.required = required  # (member, name on the wire)


class _List:
    __slots__ = ("item", "item_name")

    def __init__(self, item_name: str) -> None:
        self.item: _Node = _NOTHING
        self.item_name = item_name


_Node = _Leaf | _Structure | _List
_NOTHING = _Structure(())


class Parser:
    """Reads the parameters of one service's operations."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._nodes: dict[tuple[int, bool], _Node] = {}

    def parse(self, operation: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Raises: Refused (UnknownParameter, MissingParameter, InvalidParameterValue, MalformedQueryString)."""
        number = self._service.operations[operation].input
        root = self._node(number, keeps_empty=False) if number >= 0 else _NOTHING
        assert isinstance(root, _Structure)
        result: dict[str, Any] = {}
        # While it is filled, a list is a dict from index to element. `lists` has the place of each, outer before inner.
        lists: list[tuple[dict[Any, Any], Any]] = []
        demanding: list[tuple[dict[Any, Any], _Structure, str]] = []
        old_names = _OLD_NAMES.get(operation, {})
        for key, text in pairs:
            simple = root.members.get(key)
            if simple is not None and type(simple[1]) is _Leaf and text and simple[0] not in result:
                result[simple[0]] = simple[1].convert(text, key)
                continue
            key = old_names.get(key, key)
            steps = key.split(".")
            if len(steps) > STEPS_MAX:
                raise _unknown(key)
            if not text:
                leaf = _find(root, steps)
                if leaf is None:
                    raise _unknown(key)
                if not (isinstance(leaf, _Leaf) and leaf.keeps_empty):
                    continue
            node: _Node = root
            here: dict[Any, Any] = result
            slot: Any = None
            left = len(steps)
            for step in steps:
                left -= 1
                if type(node) is _Structure:
                    found = node.members.get(step)
                    if found is None:
                        raise _unknown(key)
                    slot, node = found
                elif type(node) is _List:
                    if node.item_name:
                        if step != node.item_name or not left:
                            raise _unknown(key)
                        node = node.item
                        continue
                    slot = _index(step, key)
                    node = node.item
                else:
                    raise _unknown(key)
                if left:
                    there = here.get(slot)
                    if there is None:
                        there = here[slot] = {}
                        if type(node) is _List:
                            lists.append((here, slot))
                        elif type(node) is _Structure and node.required:
                            demanding.append((there, node, ".".join(steps[: len(steps) - left])))
                        elif type(node) is _Leaf:
                            raise _unknown(key)
                    elif type(node) is _Leaf:
                        raise _unknown(key)
                    here = there
            if type(node) is _List and type(node.item) is _Leaf:
                # As libcloud asks for one key pair (KeyName=me), and Salt for the tags of one resource (Filter.1.Value=i-0a).
                elements = here.get(slot)
                if elements is None:
                    elements = here[slot] = {}
                    lists.append((here, slot))
                here, slot, node = elements, 1, node.item
            if type(node) is not _Leaf:
                raise _unknown(key)
            if slot in here:
                raise Refused("InvalidQueryParameter", f"The parameter {key} is given more than once")
            here[slot] = node.convert(text, key)

        for member, wire_name in root.required:
            if member not in result:
                raise _no_instances() if member == "InstanceIds" else _missing(_SET_NAMES.get(wire_name, wire_name))
        for structure, node, path in demanding:
            for member, wire_name in node.required:
                if member not in structure:
                    raise _missing(f"{path}.{wire_name}")
        for holder, slot in reversed(lists):
            elements = holder[slot]
            holder[slot] = [elements[index] for index in sorted(elements)]
        return result

    def _node(self, number: int, *, keeps_empty: bool) -> _Node:
        known = self._nodes.get((number, keeps_empty))
        if known is not None:
            return known
        shape = self._service.shape(number)
        if shape.type == "structure":
            wire_names = {member.name: member.sent_as for member in shape.members}
            structure = _Structure(tuple((name, wire_names[name]) for name in shape.required))
            self._nodes[number, keeps_empty] = structure  # before its members: shapes may contain themselves
            for member in shape.members:
                keeps = (shape.name, member.name) in _EMPTY_COUNTS
                structure.members[member.sent_as] = (member.name, self._node(member.shape, keeps_empty=keeps))
            return structure
        if shape.type == "list":
            elements = outer = _List("")
            if shape.item_sent_as:
                outer = _List(shape.item_sent_as)
                outer.item = elements
            self._nodes[number, keeps_empty] = outer
            elements.item = self._node(shape.item, keeps_empty=True)
            return outer
        if shape.type == "map":
            return _NOTHING  # no service here takes one
        leaf = _Leaf(_CONVERTERS[shape.type], keeps_empty and shape.type in ("string", "blob"))
        self._nodes[number, keeps_empty] = leaf
        return leaf


def _find(root: _Node, steps: list[str]) -> _Node | None:
    """Where a parameter's name leads to, without making anything."""
    node = root
    for step in steps:
        if isinstance(node, _Structure):
            found = node.members.get(step)
            if found is None:
                return None
            node = found[1]
        elif isinstance(node, _List):
            if step != node.item_name if node.item_name else not _is_index(step):
                return None
            node = node.item
        else:
            return None
    return node


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) <= INDEX_DIGITS_MAX


def _index(step: str, key: str) -> int:
    if not _is_index(step):
        raise _unknown(key)
    return int(step)


def _unknown(key: str) -> Refused:
    return Refused("UnknownParameter", f"The parameter {_short(key)} is not recognized")


# What EC2 calls a list that is missing, where that is not its name in a request: of CreateTags and DeleteTags.
_SET_NAMES = {"ResourceId": "resourceIdSet", "Tag": "tagSet"}


def _no_instances() -> Refused:
    """EC2 has words of its own for a list of instances that is empty."""
    return Refused("InvalidParameterCombination", "No instances specified")


def _missing(name: str) -> Refused:
    return Refused("MissingParameter", f"The request must contain the parameter {name}")


def _invalid(text: str, key: str, expected: str) -> Refused:
    return Refused("InvalidParameterValue", f"Invalid value '{_short(text)}' for {_short(key)}. Expecting {expected}.")


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "..."


def _string(text: str, key: str) -> str:
    if not text.isprintable() and UNPRINTABLE.search(text):
        raise _invalid(text, key, "text without control characters")
    return text


_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")


def _integer(bits: int) -> Callable[[str, str], int]:
    limit = 1 << (bits - 1)

    def convert(text: str, key: str) -> int:
        usual = len(text) < 10 and text.isascii() and text.isdigit()
        if not (usual or _INTEGER.fullmatch(text)) or not -limit <= (value := int(text)) < limit:
            raise _invalid(text, key, "an integer")
        return value

    return convert


def _number(text: str, key: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not text.isascii():
        raise _invalid(text, key, "a number")
    return value


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def _boolean(text: str, key: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise _invalid(text, key, "true or false")
    return value


def _blob(text: str, key: str) -> bytes:
    try:
        return base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(text, key, "base64") from None


def _timestamp(text: str, key: str) -> float:
    """Seconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise _invalid(text, key, "a time such as 2026-01-31T12:00:00Z") from None


_CONVERTERS: dict[str, Callable[[str, str], object]] = {
    "string": _string,
    "integer": _integer(32),
    "long": _integer(64),
    "double": _number,
    "float": _number,
    "boolean": _boolean,
    "blob": _blob,
    "timestamp": _timestamp,
}
