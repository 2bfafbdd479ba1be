"""Goal: what one port of a VPC has, no other gets, until it is let go of. Method: ports that share one thing each."""

import pytest
from msgspec.structs import replace

from alto.drivers.network.ports import Ports
from alto.drivers.network.records import PortRecord
from alto.model.errors import DriverFault
from alto.model.network_plans import Port
from alto.model.networks import PortAddress
from tests.drivers.network.samples import port

FIRST = replace(
    port(1),
    public_ip="127.64.0.1",
    secondary=(PortAddress(private_ip="10.77.0.201", public_ip="127.64.0.2"),),
    ipv6=("fd00:a:0:1::1",),
)


def held(*ports: Port) -> Ports:
    made = Ports()
    for one in ports:
        made.check(one)
        made[one.id] = PortRecord(port=one, machine=None)
    return made


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ({"private_ip": FIRST.private_ip}, FIRST.private_ip),
        ({"private_ip": "10.77.0.201"}, "10.77.0.201"),
        ({"ipv6": FIRST.ipv6}, "fd00:a:0:1::1"),
        ({"secondary": FIRST.secondary}, "10.77.0.201"),
        ({"mac": FIRST.mac}, FIRST.mac),
        ({"public_ip": "127.64.0.2"}, "127.64.0.2"),
    ],
)
def test_what_one_has_no_other_gets(shared: dict[str, object], said: str) -> None:
    second = replace(port(2), **shared)
    ports = held(FIRST, port(3))
    with pytest.raises(DriverFault, match=f"{said}.* still belongs to {FIRST.id}"):
        ports.check(second)
    ports.check(FIRST)  # its own is no other's
    del ports[FIRST.id]
    ports.check(second)


def test_what_one_gave_up_is_free() -> None:
    ports = held(FIRST)
    ports[FIRST.id] = PortRecord(port=port(1), machine=None)
    ports.check(replace(port(2), secondary=FIRST.secondary, ipv6=FIRST.ipv6))
    assert list(ports) == [FIRST.id]


def test_who_went_takes_nothing_of_his_successor() -> None:
    """Put without a check: what is found on a machine that somebody else had a hand in."""
    ports = held(FIRST)
    heir = replace(port(2), private_ip=FIRST.private_ip)
    ports[heir.id] = PortRecord(port=heir, machine=None)
    del ports[FIRST.id]
    with pytest.raises(DriverFault, match=heir.id):
        ports.check(replace(port(3), private_ip=FIRST.private_ip))
    assert FIRST.id not in ports
    assert len(ports) == 1
