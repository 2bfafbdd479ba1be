"""A cloud's network with guests, driven from tests that are not coroutines themselves."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from alto.drivers.network.vpc import VpcNetworks
from alto.kit.world import NETNS_DIR, real_world
from alto.model.instances import Machine
from alto.model.network_plans import NetworkPlan, Port
from alto.plan import firewall, routes
from tests.drivers.network.guests import Guest, run
from tests.drivers.network.samples import machine, plan, port

T = TypeVar("T")


class Cloud:
    def __init__(
        self, folder: Path, *, cloud_id: str = "", host_id: str = "h-1", pool: str = "127.64.0.0/16", nat: bool = False
    ) -> None:
        self.api: tuple[str, int] | None = None  # of the next driver
        self.folder = folder
        self.cloud_id = cloud_id or f"t{os.getpid() % 100000}"
        self.host_id = host_id
        self.pool = pool
        self.nat = nat
        self.guests: dict[str, Guest] = {}
        self._runner = asyncio.Runner()
        self.driver = self.new_driver()

    def new_driver(self) -> VpcNetworks:
        """As a control plane that was started again has one."""
        self.driver = VpcNetworks(
            real_world(),
            self.folder,
            cloud_id=self.cloud_id,
            host_id=self.host_id,
            rules=firewall,
            routes=routes,
            pool=self.pool,
            nat=self.nat,
            api=self.api,
        )
        return self.driver

    def do(self, act: Callable[[VpcNetworks], Awaitable[T]]) -> T:
        async def once() -> T:
            async with asyncio.timeout(60):
                return await act(self.driver)

        return self._runner.run(once())

    def ensure(self, network: NetworkPlan | None = None, *ports: Port) -> None:
        self.do(lambda driver: driver.ensure_network(network or plan(), ports))

    def guest(
        self, number: int, *groups: str, machine_of: Machine | None = None, configured: bool = True, **changes: Any
    ) -> Guest:
        """Plugged and running. Its address is set by hand, unless it is to ask for it."""
        wanted = port(number, *groups, **changes)
        whose = machine_of or machine(number, of=wanted)
        tap = self.do(lambda driver: driver.plug(wanted, whose))
        name = f"nwt-{os.getpid()}-{wanted.vpc_id}-{number}"
        try:
            ipv6 = wanted.ipv6[0] if wanted.ipv6 and configured else ""
            guest = Guest(name, tap, address=f"{wanted.private_ip}/24" if configured else "", ipv6=ipv6)
        finally:
            os.close(tap.fd)
        self.guests[name] = guest
        return guest

    def netns(self, vpc_id: str = "vpc-1") -> str:
        return self.driver.netns_of(vpc_id)

    def processes(self) -> list[str]:
        """Command lines of what the driver left running."""
        found = []
        for entry in Path("/proc").iterdir():
            if re.fullmatch("[0-9]+", entry.name) and int(entry.name) != os.getpid():
                try:
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if any(bytes(self.folder) in argument for argument in arguments):
                    found.append(b" ".join(arguments).decode())
        return sorted(found)

    def traces(self) -> dict[str, object]:
        """All that a cloud may leave on its machine."""
        return {
            "namespaces": sorted(name for name in os.listdir(NETNS_DIR) if name.startswith(f"alto-{self.cloud_id}")),
            "tables": run("nft", "list", "tables").splitlines(),
            "devices": [line.split()[1] for line in run("ip", "-o", "link").splitlines()],
            "routes": run("ip", "route", "show", "table", "main").splitlines(),
            "processes": self.processes(),
            "files": sorted(str(path) for path in self.folder.rglob("*")) if self.folder.exists() else [],
        }

    def close(self) -> None:
        for guest in self.guests.values():
            guest.close()
        self.do(lambda driver: driver.remove_all())
        self._runner.close()
