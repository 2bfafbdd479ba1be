"""The ports of a VPC on this host, by id, and who has which address, MAC and device. Not here: what is made of them.

The invariant: who is put after `check` let it pass has nothing that another has; and a look costs what one port has, however
many there are.
"""

from collections.abc import Iterator, MutableMapping

from alto.drivers.network.records import PortRecord
from alto.model.errors import DriverFault
from alto.model.network_plans import Port


class Ports(MutableMapping[str, PortRecord]):
    def __init__(self) -> None:
        self._records: dict[str, PortRecord] = {}
        self._owners: dict[str, str] = {}  # what one alone may have -> the port that has it

    def __getitem__(self, id: str) -> PortRecord:
        return self._records[id]

    def __setitem__(self, id: str, record: PortRecord) -> None:
        self.pop(id, None)
        self._records[id] = record
        self._owners.update(dict.fromkeys((*_inside(record.port), *_outside(record.port)), id))

    def __delitem__(self, id: str) -> None:
        port = self._records.pop(id).port
        for key in (*_inside(port), *_outside(port)):
            if self._owners.get(key) == id:
                del self._owners[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def check(self, port: Port) -> None:
        """Raises: DriverFault: another has something of what `port` is to have."""
        for key in _inside(port):
            if (owner := self._owners.get(key, port.id)) != port.id:
                taken = sorted(one for one in port.all_addresses if self._owners.get(one) == owner)
                what = ", ".join(taken) or port.private_ip
                raise DriverFault(f"{what} ({port.mac}) in {port.vpc_id} still belongs to {owner}")
        for address, key in zip(port.public, _outside(port), strict=True):
            if (owner := self._owners.get(key, port.id)) != port.id:
                raise DriverFault(f"{address} still belongs to {owner}")


def _inside(port: Port) -> tuple[str, ...]:
    return (*port.all_addresses, port.mac, port.device)


def _outside(port: Port) -> tuple[str, ...]:
    """Not to be taken for addresses inside, which may be the same."""
    return tuple(f"public {address}" for address in port.public)
