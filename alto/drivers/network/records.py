"""What the network driver keeps on the disk: one folder per VPC, one file per port, named by the port's private address.

The driver alone writes; the edge (alto/daemons/edge.py) reads, also while no driver runs. Each file is whole, so a reader
never needs a lock, and a file that cannot be read is one port's trouble only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from alto.kit.world import Files, World
from alto.model.instances import Machine
from alto.model.network_plans import NetworkPlan, Port

T = TypeVar("T")


class NetworkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`device` is this host's end of the VPC's uplink, in the namespace where Alto itself runs. A network that is `leaving` is
    being removed: the edge lets go of it. `names_outside`: its guests have a way out, so the edge relays their questions for
    names to this machine's resolver. `relays`: namespaces of endpoints -> addresses at which the edge takes connections there,
    and relays them to `api`."""

    netns: str
    device: str
    plan: NetworkPlan
    leaving: bool = False
    names_outside: bool = False
    api: tuple[str, int] | None = None
    relays: dict[str, str] = {}


# Where the edge listens for those questions, inside the VPC's namespace.
NAME_RELAY = ("127.0.0.1", 5353)


class PortRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`machine` is None for a port that the driver was told of, but that was not plugged since."""

    port: Port
    machine: Machine | None


class NetworkRecords:
    def __init__(self, world: World, folder: Path) -> None:
        self._files = world.files
        self._folder = folder

    def vpc_folder(self, vpc_id: str) -> Path:
        return self._folder / vpc_id

    def vpc_ids(self) -> list[str]:
        return [id for id in self._files.names(self._folder) if self.network(id) is not None]

    def network(self, vpc_id: str) -> NetworkRecord | None:
        return _read(self._files, self._folder / vpc_id / "network.json", NetworkRecord)

    def put_network(self, record: NetworkRecord) -> None:
        folder = self._folder / record.plan.vpc_id
        self._files.make_dirs(folder / "ports")
        self._files.write(folder / "network.json", msgspec.json.encode(record))

    def remove_network(self, vpc_id: str) -> None:
        # First the file that says there is one, so that a half-removed folder is none.
        self._files.remove(self._folder / vpc_id / "network.json")
        self._files.remove_tree(self._folder / vpc_id)

    def forget_halves(self) -> None:
        """Folders whose removal was cut off by a predecessor's death: of this process there are none between two steps. One
        that has ports lost its file otherwise, and is made whole again."""
        for id in self._files.names(self._folder):
            home = self._folder / id
            if not self._files.exists(home / "network.json") and not self._files.names(home / "ports"):
                self._files.remove_tree(home)

    def port_at(self, vpc_id: str, private_ip: str) -> PortRecord | None:
        return _read(self._files, self._folder / vpc_id / "ports" / f"{private_ip}.json", PortRecord)

    def ports(self, vpc_id: str) -> Iterator[PortRecord]:
        for name in self._files.names(self._folder / vpc_id / "ports"):
            if name.endswith(".json") and not name.startswith("."):
                record = self.port_at(vpc_id, name.removesuffix(".json"))
                if record is not None:
                    yield record

    def put_port(self, record: PortRecord) -> None:
        port = record.port
        path = self._folder / port.vpc_id / "ports" / f"{port.private_ip}.json"
        self._files.write(path, msgspec.json.encode(record))

    def remove_port(self, port: Port) -> None:
        self._files.remove(self._folder / port.vpc_id / "ports" / f"{port.private_ip}.json")


def _read(files: Files, path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(files.read(path), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
