"""The record beside the artifact: one file per machine on this host, written before the machine is touched.

A manifest says what this host was told of a machine, durably, with a checksum; it outlives the agent and the store. The
newest by (epoch, incarnation) wins: an older wish never replaces a newer one.
"""

import zlib
from pathlib import Path

import msgspec
import structlog

from alto.kit.world import Files
from alto.model.instances import Machine

log = structlog.get_logger()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    reboots_done: int = 0


class Manifests:
    """All manifests of one host, in memory and under `folder`."""

    def __init__(self, files: Files, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._known: dict[str, Manifest] = {}
        files.make_dirs(folder)
        for name in files.names(folder):
            if name.endswith(".json") and not name.startswith("."):
                manifest = _decode(files.read(folder / name))
                if manifest is None:
                    log.error("manifest is damaged and left alone", name=name)
                else:
                    self._known[manifest.machine.id] = manifest

    def all(self) -> list[Manifest]:
        return [self._known[id] for id in sorted(self._known)]

    def find(self, id: str) -> Manifest | None:
        return self._known.get(id)

    def put(self, manifest: Manifest) -> None:
        """On the disk when it returns; nothing is written when nothing changed."""
        if self._known.get(manifest.machine.id) == manifest:
            return
        body = msgspec.json.encode(manifest)
        head = b"%08x\n" % zlib.crc32(body)
        self._files.write(self._folder / f"{manifest.machine.id}.json", head + body)
        self._known[manifest.machine.id] = manifest

    def remove(self, id: str) -> None:
        self._files.remove(self._folder / f"{id}.json")
        self._known.pop(id, None)


def newer(machine: Machine, known: Machine | None) -> bool:
    """Whether `machine` may replace `known`: hosts refuse a lower epoch, and a lower incarnation of the same epoch."""
    return known is None or (machine.epoch, machine.incarnation) >= (known.epoch, known.incarnation)


def _decode(data: bytes) -> Manifest | None:
    head, _, body = data.partition(b"\n")
    try:
        if int(head, 16) != zlib.crc32(body):
            return None
        return msgspec.json.decode(body, type=Manifest)
    except (ValueError, msgspec.MsgspecError):
        return None
