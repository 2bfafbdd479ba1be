"""Amazon's own service models, as botocore ships them, made small and quick to open.

botocore is never imported: its JSON (4 MB for EC2) is read once, what the wire needs is written to a table in the cache
directory, one file per service, version of its API and botocore version, and shapes are decoded one by one on first use. A
table that is missing, damaged or of another version is built anew. botocore's models are under Apache-2.0, as Alto is.

Invariant: names on the wire are the model's, nobody types them by hand.
"""

import gzip
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from alto.kit.world import Files

FORMAT = b"alto-tab-1"
_DIGEST_BYTES = 16


class Member(msgspec.Struct, frozen=True, array_like=True, gc=False):
    name: str
    shape: int
    sent_as: str  # in a request
    shown_as: str  # in an answer


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """`type` is the model's. What it says of lengths, ranges and allowed values is left out: AWS itself goes by other rules."""

    type: str
    name: str
    members: tuple[Member, ...] = ()
    required: tuple[str, ...] = ()
    item: int = -1  # of a list, or the values of a map
    item_sent_as: str = ""  # "" where elements are numbered right behind the list's name
    item_shown_as: str = ""
    key: int = -1  # of a map


class OperationShapes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    input: int
    output: int  # -1: the model has none
    result_wrapper: str


class _Index(msgspec.Struct, frozen=True, array_like=True):
    protocol: str  # "ec2" or "query"
    xmlns: str
    operations: dict[str, OperationShapes]
    offsets: list[int]  # of each shape; one more than there are


class Service:
    """One service's model. Shapes go by number."""

    def __init__(self, name: str, index: _Index, shapes: memoryview) -> None:
        self.name = name
        self.protocol = index.protocol
        self.xmlns = index.xmlns
        self.operations: Mapping[str, OperationShapes] = index.operations
        self._offsets = index.offsets
        self._encoded = shapes
        self._decoded: dict[int, Shape] = {}

    def shape(self, number: int) -> Shape:
        shape = self._decoded.get(number)
        if shape is None:
            blob = self._encoded[self._offsets[number] : self._offsets[number + 1]]
            shape = self._decoded[number] = _SHAPE.decode(blob)
        return shape


_SHAPE = msgspec.msgpack.Decoder(Shape)
_INDEX = msgspec.msgpack.Decoder(_Index)


class Models:
    """`service` opens (or first builds) one table; later calls are free."""

    def __init__(self, files: Files, cache: Path) -> None:
        self._files = files
        self._cache = cache
        self._open: dict[tuple[str, str], Service] = {}

    def service(self, name: str, version: str | None = None) -> Service:
        """`version`: one of `versions`; None: the newest.

        Raises: FileNotFoundError: botocore is not installed, or has no such service."""
        version = version or self.versions(name)[-1]
        service = self._open.get((name, version))
        if service is None:
            service = self._open[name, version] = self._load(name, version)
        return service

    def versions(self, name: str) -> list[str]:
        """Those of its API of which there is a model, oldest first. Raises: FileNotFoundError, as `service`."""
        folder = self._folder(name)
        found = [version for version in self._files.names(folder) if self._model_file(folder / version) is not None]
        if not found:
            raise FileNotFoundError(f"botocore has no service '{name}'")
        return sorted(found)

    def _load(self, name: str, version: str) -> Service:
        path = self._cache / f"{name}-{version}-{_botocore_version()}.tab"
        if self._files.exists(path):
            service = _open_table(name, self._files.read(path))
            if service is not None:
                return service
        table = build_table(self._read_model(name, version))
        try:
            self._files.make_dirs(self._cache)
            self._files.write(path, table, mode=0o644)
        except OSError:
            # A read-only or full disk costs a fifth of a second at each start, no more.
            pass
        service = _open_table(name, table)
        assert service is not None
        return service

    def _folder(self, name: str) -> Path:
        spec = importlib.util.find_spec("botocore")
        if spec is None or spec.origin is None:
            raise FileNotFoundError("botocore is not installed: its service models say what the wire looks like")
        return Path(spec.origin).parent / "data" / name

    def _model_file(self, folder: Path) -> Path | None:
        paths = (folder / file for file in ("service-2.json.gz", "service-2.json"))
        return next((path for path in paths if self._files.exists(path)), None)

    def _read_model(self, name: str, version: str) -> bytes:
        path = self._model_file(self._folder(name) / version)
        assert path is not None
        data = self._files.read(path)
        return gzip.decompress(data) if path.suffix == ".gz" else data


def _botocore_version() -> str:
    try:
        return importlib.metadata.version("botocore")
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError("botocore is not installed: its service models say what the wire looks like") from None


def _open_table(name: str, table: bytes) -> Service | None:
    head = len(FORMAT) + _DIGEST_BYTES
    body = memoryview(table)[head:]
    if table[: len(FORMAT)] != FORMAT or table[len(FORMAT) : head] != _digest(body):
        return None
    length = int.from_bytes(body[:8], "big")
    return Service(name, _INDEX.decode(body[8 : 8 + length]), body[8 + length :])


def _digest(body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()


def build_table(model_json: bytes) -> bytes:
    """From a botocore service model to the table that `Models` opens."""
    model: dict[str, Any] = msgspec.json.decode(model_json)
    protocol = model["metadata"]["protocol"]
    if protocol not in ("ec2", "query"):
        raise ValueError(f"{model['metadata']['serviceId']} speaks {protocol}, which is not done here")
    numbers = {name: number for number, name in enumerate(model["shapes"])}
    encoder = msgspec.msgpack.Encoder()
    blobs = [encoder.encode(_shape(name, shape, numbers, protocol)) for name, shape in model["shapes"].items()]
    offsets = [0]
    for blob in blobs:
        offsets.append(offsets[-1] + len(blob))
    operations = {
        name: OperationShapes(
            numbers[operation["input"]["shape"]] if "input" in operation else -1,
            numbers[operation["output"]["shape"]] if "output" in operation else -1,
            operation.get("output", {}).get("resultWrapper", ""),
        )
        for name, operation in model["operations"].items()
    }
    index = encoder.encode(_Index(protocol, _xmlns(model["metadata"]), operations, offsets))
    body = len(index).to_bytes(8, "big") + index + b"".join(blobs)
    return FORMAT + _digest(body) + body


def _xmlns(metadata: dict[str, Any]) -> str:
    """EC2 itself ends it with a slash, which botocore's metadata lacks and libcloud looks for."""
    xmlns: str = metadata["xmlNamespace"]
    return xmlns if xmlns.endswith("/") else xmlns + "/"


def _shape(name: str, shape: dict[str, Any], numbers: dict[str, int], protocol: str) -> Shape:
    type = shape["type"]
    if shape.get("flattened"):
        raise ValueError(f"{name} is a flattened list, which is not done here")
    if type == "structure":
        members = tuple(_member(key, member, numbers, protocol) for key, member in shape["members"].items())
        return Shape(type, name, members, tuple(shape.get("required", ())))
    if type == "list":
        element = shape["member"]
        wire_name = element.get("locationName")
        return Shape(
            type,
            name,
            item=numbers[element["shape"]],
            item_sent_as="" if protocol == "ec2" else wire_name or "member",
            item_shown_as=wire_name or ("item" if protocol == "ec2" else "member"),
        )
    if type == "map":
        return Shape(type, name, item=numbers[shape["value"]["shape"]], key=numbers[shape["key"]["shape"]])
    return Shape(type, name)


def _member(name: str, member: dict[str, Any], numbers: dict[str, int], protocol: str) -> Member:
    location: str = member.get("locationName", name)
    sent_as = location
    if protocol == "ec2":
        # "queryName, else locationName with its first letter raised, else the member's name" (EC2 query protocol).
        sent_as = member.get("queryName") or (location[:1].upper() + location[1:] if "locationName" in member else name)
    return Member(name, numbers[member["shape"]], sent_as, location)
