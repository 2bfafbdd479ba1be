"""From what an operation answers to XML: a function written once per shape of the service model and members that come.

An answer is a dict with the output shape's member names; None counts as absent. A name that the model does not have is a bug
of the operation and raises KeyError; what the model of an older version does not have, its answers do not. Times are seconds
since 1970. Each character of the text is a byte of UTF-8, so that joining and encoding a long listing is copying; as
references, other letters would be ASCII, but Amazon's SDK for JavaScript cuts those beyond U+FFFF. In a list, `Cached` stands
for an element that is rendered once per key: long listings are made of them.

Invariant: the result is well-formed whatever the strings hold.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast

from alto.api.wire.models import Member, Service

Writer = Callable[[Any], str]

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


class Cached(NamedTuple):
    """An element of a list that is made and rendered once for each `key`, which therefore names everything that is in it
    (ids and versions of the records joined). Without XML it is what `make` gives."""

    key: tuple[object, ...]
    make: Callable[[], Mapping[str, Any]]


class Constant(dict[str, Any]):
    """A structure that many answers share and nobody changes: rendered once."""

    __slots__ = ()


CONSTANTS_MAX = 1024  # of a shape
FORMS_MAX = 256  # of a structure: which members, in which order; operations show it in a few each
CACHED_BYTES_MAX = 48 * 1024 * 1024  # about 12,000 instances; beyond it the oldest are rendered again
OLDER_BYTES_MAX = CACHED_BYTES_MAX // 16  # of each older version, which few clients ask for


class _Constants:
    """Those of one shape that were written: by identity, which is theirs as long as they are kept here."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self._kept: list[Constant] = []

    def keep(self, constant: Constant, text: str) -> None:
        if len(self._kept) >= CONSTANTS_MAX:
            self.texts.clear()
            self._kept.clear()
        self.texts[id(constant)] = text
        self._kept.append(constant)


class Renderer:
    """Writes the answers of one service. `older`: the model is of a version of its API before the one that operations go by."""

    def __init__(self, service: Service, *, older: bool = False) -> None:
        self._service = service
        self._older = older
        self._documents = service.xmlns[: service.xmlns.rindex("/", 0, -1) + 1]  # "http://ec2.amazonaws.com/doc/"
        self._contents: dict[int, Writer] = {}
        self._constants: dict[int, _Constants] = {}
        self._rendered: dict[tuple[int, tuple[object, ...]], str] = {}  # oldest first
        self._rendered_bytes = 0
        self._rendered_bytes_max = OLDER_BYTES_MAX if older else CACHED_BYTES_MAX

    def knows(self, operation: str) -> bool:
        return operation in self._service.operations

    def answer(self, operation: str, result: Mapping[str, Any], request_id: str, version: str | None = None) -> bytes:
        """`version`: what the client named. The answer's namespace names it too, as at EC2: old clients look for their own."""
        shapes = self._service.operations[operation]
        body = self.content(shapes.output)(result) if shapes.output >= 0 else ""
        name = f"{operation}Response"
        if self._service.protocol == "ec2":
            says_true = shapes.output < 0 or operation in _ALSO_RETURN_TRUE
            body = f"<requestId>{request_id}</requestId>{_RETURN_TRUE if says_true else ''}{body}"
        else:
            if shapes.result_wrapper:
                body = f"<{shapes.result_wrapper}>{body}</{shapes.result_wrapper}>"
            body = f"{body}<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        xmlns = self._service.xmlns if version is None else f"{self._documents}{version}/"
        return f'{_HEAD}<{name} xmlns="{xmlns}">{body}</{name}>'.encode("latin-1")

    def content(self, number: int) -> Writer:
        """Writes what stands between the tags of a value of this shape."""
        writer = self._contents.get(number)
        if writer is None:
            writer = self._contents[number] = self._make(number)
        return writer

    def _make(self, number: int) -> Writer:
        shape = self._service.shape(number)
        match shape.type:
            case "structure":
                return self._structure(number)
            case "list":
                return self._list(shape.item, shape.item_shown_as)
            case "map":
                return self._map(shape.key, shape.item)
            case simple:
                return _SIMPLE[simple]

    def _structure(self, number: int) -> Writer:
        places = {member.name: member for member in self._service.shape(number).members}
        usual: dict[tuple[str, ...], Writer] = {}  # for the members that were there the first time
        others: dict[tuple[tuple[str, ...], tuple[bool, ...]], Writer] = {}
        constants = self._constants_of(number)

        def write_other(value: Mapping[str, Any]) -> str:
            form = tuple(value), tuple([one is None for one in value.values()])
            writer = others.get(form)
            if writer is None:
                if len(others) >= FORMS_MAX:
                    others.clear()
                writer = others[form] = self._write_members(places, *form, None)
            return writer(value)

        def write(value: Mapping[str, Any]) -> str:
            constant = type(value) is Constant
            if constant and (known := constants.texts.get(id(value))) is not None:
                return known
            names = tuple(value)
            writer = usual.get(names)
            if writer is None:
                if len(usual) >= FORMS_MAX:
                    usual.clear()
                absent = [one is None for one in value.values()]
                writer = usual[names] = self._write_members(places, names, absent, write_other)
            text = writer(value)
            if constant:
                constants.keep(cast(Constant, value), text)
            return text

        return write

    def _constants_of(self, number: int) -> "_Constants":
        return self._constants.setdefault(number, _Constants())

    def _write_members(
        self, places: Mapping[str, Member], names: Sequence[str], absent: Sequence[bool], otherwise: Writer | None
    ) -> Writer:
        """Writes a structure that has these members in this order, and as None those that are `absent`; one that has not goes
        to `otherwise`. As Python of its own, for an instance has a hundred of them and a call for each would double what it
        costs; strings, which hardly ever need it, are looked at all at once."""
        known: dict[str, Any] = {"escaped": _escaped, "timestamp": _timestamp, "plain": _PLAIN, "otherwise": otherwise}
        texts, shown = [], []
        for number, (name, left_out) in enumerate(zip(names, absent, strict=True)):
            value = f"v{number}"
            if left_out or (self._older and name not in places):
                continue
            place = places[name]
            shape = self._service.shape(place.shape)
            text = value
            match shape.type:
                case "string":
                    texts.append(value)
                case "boolean":
                    text = f"'true' if {value} else 'false'"
                case "timestamp":
                    text = f"timestamp(int({value}))"
                case "integer" | "long" | "double" | "float":
                    pass
                case type:
                    known[f"write_{value}"] = self.content(place.shape)
                    text = f"write_{value}({value})"
                    if type == "structure":
                        known[f"constant_{value}"] = self._constants_of(place.shape).texts.get
                        text = f"constant_{value}(id({value})) or {text}"
                    elif type == "list":
                        text = f"{text} if {value} else ''"
            shown.append(f"<{place.shown_as}>{{{text}}}</{place.shown_as}>")
        lines = [f"{''.join([f'v{number}, ' for number in range(len(names))])}= value.values()"] if names else []
        if names and otherwise is not None:
            strange = " or ".join([f"v{number} is {'not ' if out else ''}None" for number, out in enumerate(absent)])
            lines.append(f"if {strange}: return otherwise(value)")
        if texts:
            together = "".join([f"{{{one}}}" for one in texts])
            lines += [f'text = f"{together}"', f"if {_UNLIKE_PLAIN}: {', '.join(texts)}, = escaped({', '.join(texts)})"]
        body = "\n ".join([*lines, f'return f"{"".join(shown)}"'])
        exec(f"def write(value):\n {body}", known)
        return cast(Writer, known["write"])

    def _list(self, item: int, item_name: str) -> Writer:
        head, tail = f"<{item_name}>", f"</{item_name}>"
        content: Writer | None = None

        def cached(element: Cached) -> str:
            rendered = self._rendered.get((item, element.key))
            if rendered is None:
                rendered = self.content(item)(element.make())
                self._remember((item, element.key), rendered)
            return rendered

        def write(value: Any) -> str:
            nonlocal content
            if content is None:  # not before: shapes may contain themselves
                content = self.content(item)
            return "".join([f"{head}{cached(one) if type(one) is Cached else content(one)}{tail}" for one in value or ()])

        return write

    def _remember(self, key: tuple[int, tuple[object, ...]], rendered: str) -> None:
        self._rendered[key] = rendered
        self._rendered_bytes += len(rendered)
        while self._rendered_bytes > self._rendered_bytes_max:
            self._rendered_bytes -= len(self._rendered.pop(next(iter(self._rendered))))

    def _map(self, key: int, item: int) -> Writer:
        def write(value: Mapping[Any, Any]) -> str:
            keys, items = self.content(key), self.content(item)
            return "".join(
                [f"<entry><key>{keys(name)}</key><value>{items(entry)}</value></entry>" for name, entry in value.items()]
            )

        return write


# Operations without output say so in this way, and some that got an output later still do; libcloud and boto 2 read it.
# It stands before that output, where Salt counts on it: the third element of AssociateAddress's answer is the association.
_RETURN_TRUE = "<return>true</return>"
_ALSO_RETURN_TRUE = frozenset({"AssignPrivateIpAddresses", "AssociateAddress", "CreatePlacementGroup", "CreateSecurityGroup"})

_SPECIAL = re.compile("[&<>\r]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


# Whether `text` is not what XML shows as it is.
_PLAIN = bytes([letter for letter in range(0x20, 0x7F) if letter not in b"&<>"])
_UNLIKE_PLAIN = "not text.isascii() or text.encode().translate(None, plain)"
_is_unlike_plain = eval(f"lambda text: {_UNLIKE_PLAIN}", {"plain": _PLAIN})


def _string(value: str) -> str:
    return escape(value) if _is_unlike_plain(value) else value


def _escaped(*values: str) -> list[str]:
    return [_string(value) for value in values]


def escape(text: str) -> str:
    """Text for between two tags, a character for each byte; what XML 1.0 cannot hold at all becomes U+FFFD."""
    text = _FORBIDDEN.sub("\ufffd", text)
    text = _SPECIAL.sub(lambda found: _ESCAPES[found[0]], text)
    return text.encode().decode("latin-1")


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _blob(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def timestamp(seconds: float) -> str:
    """As EC2 shows times: whole seconds, UTC. Filters on times compare with this text."""
    return _timestamp(int(seconds))


@lru_cache(maxsize=8192)
def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


_SIMPLE: dict[str, Writer] = {
    "string": _string,
    "integer": str,
    "long": str,
    "double": str,
    "float": str,
    "boolean": _boolean,
    "blob": _blob,
    "timestamp": timestamp,
}


def plain(value: Any) -> Any:
    """An operation's answer for those who want no XML: every `Cached` as what it stands for."""
    if type(value) is Cached:
        return plain(value.make())
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def ec2_error(code: str, message: str, request_id: str) -> bytes:
    """No namespace and exactly two children: libcloud takes it apart by position."""
    return (
        f"{_HEAD}<Response><Errors><Error><Code>{_string(code)}</Code><Message>{_string(message)}</Message></Error></Errors>"
        f"<RequestID>{request_id}</RequestID></Response>"
    ).encode("latin-1")


def query_error(xmlns: str, code: str, message: str, status: int, request_id: str) -> bytes:
    fault = "Receiver" if status >= 500 else "Sender"
    return (
        f'{_HEAD}<ErrorResponse xmlns="{xmlns}"><Error><Type>{fault}</Type><Code>{_string(code)}</Code>'
        f"<Message>{_string(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode("latin-1")
