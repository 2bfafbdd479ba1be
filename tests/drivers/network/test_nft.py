"""Goal: a transaction is whole or nothing, by the library and by the command alike, and a refusal is a DriverFault.

Method: real tables in a namespace of the test's own.
"""

import asyncio
import os
from collections.abc import Iterator

import pytest

from alto.drivers.network import nft
from alto.kit.world import real_world
from alto.model.errors import DriverFault
from tests.drivers.network.guests import run

pytestmark = pytest.mark.net


@pytest.fixture
def netns(namespaces: None) -> Iterator[str]:
    name = f"nwt-nft-{os.getpid()}"
    run("ip", "netns", "add", name)
    yield name
    run("ip", "netns", "delete", name)


@pytest.fixture(params=["library", "command"])
def apply(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nft.Nft:
    if request.param == "command":
        monkeypatch.setattr(nft, "_load", lambda: None)
    made = nft.Nft(real_world())
    if request.param == "library" and made._library is None:
        pytest.skip("libnftables.so.1 is not on this machine")
    return made


def test_whole_or_nothing(apply: nft.Nft, netns: str) -> None:
    asyncio.run(apply.apply(netns, "add table inet one\nadd chain inet one c_a\n"))
    before = run("nft", "list", "ruleset", netns=netns)
    assert "chain c_a" in before
    with pytest.raises(DriverFault) as fault:
        asyncio.run(apply.apply(netns, "add chain inet one c_b\nadd rule inet absent c_x accept\n"))
    assert "absent" in str(fault.value.__cause__) or "No such file" in str(fault.value.__cause__)
    assert run("nft", "list", "ruleset", netns=netns) == before
    asyncio.run(apply.apply(netns, ""))


def test_many_at_once_each_in_its_namespace(apply: nft.Nft, netns: str) -> None:
    other = f"{netns}-b"
    run("ip", "netns", "add", other)
    try:

        async def all_of_them() -> None:
            spaces = [netns, other] * 15
            await asyncio.gather(*(apply.apply(space, f"add table inet t{n}\n") for n, space in enumerate(spaces)))

        asyncio.run(all_of_them())
        for space, remainder in ((netns, 0), (other, 1)):
            tables = {line.split()[2] for line in run("nft", "list", "tables", netns=space).splitlines()}
            assert tables == {f"t{n}" for n in range(30) if n % 2 == remainder}
    finally:
        run("ip", "netns", "delete", other)
