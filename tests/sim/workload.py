"""People and programs that use the simulated cloud: each asks, loses answers, asks again, and remembers what it was promised.

A client's memory is the other half of the oracle: what was acknowledged must be so at the end, and a retry with the same
token must name the same reservation.
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from alto.model.errors import AltoError
from alto.model.instances import Instance, Phase, Wish
from alto.store.store import Reader
from tests.sim.api import BROKEN_IMAGE, IMAGE
from tests.sim.check import Violated
from tests.sim.cloud import SimCloud
from tests.sim.links import DEADLINE_S
from tests.sim.networks import NetworkUser

TYPES = ("m1.tiny", "m1.tiny", "t1.micro")
TRIES_MAX = 400
GROUP_TAG = "aws:autoscaling:groupName"


class Client:
    """One user with some instances and perhaps a service."""

    def __init__(self, cloud: SimCloud, number: int, *, actions: int, pace_s: float, account: str | None = None) -> None:
        self._cloud = cloud
        self._name = f"client{number}"
        self._chance = random.Random(f"{self._name} {cloud.seed}")
        self._places = random.Random(f"{self._name} places {cloud.seed}")
        # Some clients use networks, so that the others' stories stay what they were.
        networks = random.Random(f"{self._name} networks {cloud.seed}")
        self._uses_networks = networks.random() < 0.4
        self.networks = NetworkUser(self._name, networks, self._ask, self._living)
        self._link = cloud.link(self._name)
        self._account = account  # None: the cloud's first
        self._actions = actions
        self._pace_s = pace_s
        self._tokens = 0
        self.launched: dict[str, str] = {}  # instance -> reservation, acknowledged
        self.terminated: set[str] = set()  # acknowledged
        self.power: dict[str, Phase] = {}  # acknowledged last
        self.orderly = not (cloud.knobs.api_weather.late or cloud.knobs.api_weather.double)
        self.tags: dict[str, dict[str, str]] = {}  # acknowledged
        self.services: dict[str, int] = {}  # name -> desired, acknowledged

    async def run(self) -> None:
        actions = (
            (self._launch, 6),
            (self.terminate, 4),
            (self.stop, 3),
            (self.start, 3),
            (self.reboot, 1),
            (self.tag, 2),
            (self._untag, 1),
            (self._describe, 2),
            (self._service, 2),
            (self.scale, 3),
            (self._delete_service, 1),
            (self._launch_broken, 1),
            *(((self.networks.act, 12), (self.networks.interface_act, 12)) if self._uses_networks else ()),
        )
        for _ in range(self._actions):
            await asyncio.sleep(self._chance.uniform(0, self._pace_s))
            action = self._chance.choices([one for one, _ in actions], [weight for _, weight in actions])[0]
            await action()

    async def clean_up(self) -> None:
        """Give everything back."""
        for name in sorted(self.services):
            await self._ask("DeleteService", {"name": name})
        # A request that was refused when asked again may still arrive late and launch: nobody told us its ids.
        await asyncio.sleep(3 * DEADLINE_S)
        answer = await self._ask("DescribeInstances", {})
        assert isinstance(answer, dict)
        unknown = {
            one["InstanceId"]
            for reservation in answer["Reservations"]
            for one in reservation["Instances"]
            if not any(tag["Key"] == GROUP_TAG for tag in one.get("Tags", ()))
        }
        for id in sorted(self.launched.keys() | unknown):
            await self.terminate(id)

    # -- asking

    async def _ask(self, action: str, parameters: Mapping[str, Any]) -> dict[str, Any] | AltoError:
        """Asked until there is an answer, as an SDK does. A refusal is an answer; anything else is a fault of the server."""
        for attempt in range(TRIES_MAX):
            try:
                answer = await self._cloud.call(self._link, action, parameters, self._account)
                self._cloud.loop.note(f"{self._name} {action} done")
                return answer
            except (OSError, TimeoutError):
                await asyncio.sleep(min(0.2 * 2**attempt, 10.0) * self._chance.uniform(0.5, 1))
            except AltoError as error:
                self._cloud.loop.note(f"{self._name} {action}: {error}")
                if error.retryable:
                    await asyncio.sleep(1.0)
                    continue
                return error
            except Exception as error:
                raise Violated(f"{action} failed inside: {error!r}") from error
        raise Violated(f"{action} had no answer in {TRIES_MAX} tries")

    def _living(self) -> list[str]:
        return sorted(self.launched.keys() - self.terminated)

    def _some(self) -> str | None:
        living = self._living()
        return self._chance.choice(living) if living else None

    # -- what it does

    async def _launch(self, image: str = IMAGE) -> None:
        self._tokens += 1
        most = self._chance.randint(1, 3)
        parameters = {
            "ImageId": image,
            "InstanceType": self._chance.choice(TYPES),
            "MinCount": self._chance.randint(1, most),
            "MaxCount": most,
            "ClientToken": f"{self._name}-{self._tokens}",
            "InstanceInitiatedShutdownBehavior": self._chance.choice(("stop", "terminate")),
        }
        if self._places.random() < 0.3:
            parameters["Placement"] = {"GroupName": self._places.choice(("apart", "together", "parts"))}
        first = await self._ask("RunInstances", parameters)
        self._remember(first, image)
        if self._chance.random() < 0.3:
            # A program that was restarted and does not know that it asked already.
            again = await self._ask("RunInstances", parameters)
            if isinstance(first, dict) and isinstance(again, dict):
                if again["ReservationId"] != first["ReservationId"]:
                    raise Violated(f"one token, two reservations: {first['ReservationId']}, {again['ReservationId']}")
                ids = [{one["InstanceId"] for one in answer["Instances"]} for answer in (first, again)]
                if ids[0] != ids[1]:
                    raise Violated(f"one token, other instances: {ids}")
            self._remember(again, image)

    def _remember(self, answer: dict[str, Any] | AltoError, image: str) -> None:
        if isinstance(answer, dict):
            for instance in answer["Instances"]:
                self.launched[instance["InstanceId"]] = answer["ReservationId"]
                if image == IMAGE:
                    self.power.setdefault(instance["InstanceId"], Phase.RUNNING)

    async def _launch_broken(self) -> None:
        await self._launch(BROKEN_IMAGE)

    async def terminate(self, id: str | None = None) -> None:
        id = id or self._some()
        if id is not None and isinstance(await self._ask("TerminateInstances", {"InstanceIds": [id]}), dict):
            self.terminated.add(id)

    async def stop(self) -> None:
        await self._switch("StopInstances", Phase.STOPPED)

    async def start(self) -> None:
        await self._switch("StartInstances", Phase.RUNNING)

    async def _switch(self, action: str, phase: Phase) -> None:
        if id := self._some():
            answer = await self._ask(action, {"InstanceIds": [id]})
            # Of a launch that can never boot nothing is promised.
            if isinstance(answer, dict) and id in self.power:
                self.power[id] = phase

    async def launch_one(self, **more: Any) -> None:
        self._tokens += 1
        parameters = {
            "ImageId": IMAGE,
            "InstanceType": "m1.tiny",
            "MinCount": 1,
            "MaxCount": 1,
            "ClientToken": f"{self._name}-{self._tokens}",
            **more,
        }
        self._remember(await self._ask("RunInstances", parameters), IMAGE)

    async def serve(self) -> None:
        await self._ask("CreateService", {"name": f"{self._name}-web", "desired": 2, "drain_s": 1.0})
        self.services[f"{self._name}-web"] = 2

    async def reboot(self) -> None:
        if id := self._some():
            await self._ask("RebootInstances", {"InstanceIds": [id]})

    async def tag(self) -> None:
        if id := self._some():
            key, value = self._chance.choice("abc"), str(self._chance.randint(0, 9))
            tags = [{"Key": key, "Value": value}]
            if isinstance(await self._ask("CreateTags", {"Resources": [id], "Tags": tags}), dict):
                self.tags.setdefault(id, {})[key] = value

    async def _untag(self) -> None:
        if id := self._some():
            key = self._chance.choice("abc")
            if isinstance(await self._ask("DeleteTags", {"Resources": [id], "Tags": [{"Key": key}]}), dict):
                self.tags.get(id, {}).pop(key, None)

    async def _describe(self) -> None:
        answer = await self._ask("DescribeInstances", {})
        if isinstance(answer, dict):
            listed = {one["InstanceId"] for reservation in answer["Reservations"] for one in reservation["Instances"]}
            missing = self.launched.keys() - self._cloud.checker.ended - listed
            if missing:
                raise Violated(f"acknowledged and not listed: {sorted(missing)}")

    async def _service(self) -> None:
        name = f"{self._name}-web{len(self.services)}"
        if len(self.services) < 2:
            desired = self._chance.randint(0, 3)
            await self._ask("CreateService", {"name": name, "desired": desired, "drain_s": 3.0})
            self.services[name] = desired

    async def scale(self) -> None:
        if self.services:
            name, desired = self._chance.choice(sorted(self.services)), self._chance.randint(0, 4)
            await self._ask("ScaleService", {"name": name, "desired": desired})
            self.services[name] = desired

    async def _delete_service(self) -> None:
        if self.services:
            name = self._chance.choice(sorted(self.services))
            await self._ask("DeleteService", {"name": name})

    # -- what it was promised

    def check_promises(self, reader: Reader) -> None:
        """Raises: Violated, when something acknowledged is not so. For a settled cloud."""
        if self.orderly:
            self.networks.check_promises(reader)
        for id, reservation in sorted(self.launched.items()):
            instance = reader.find(Instance, id)
            if instance is None:
                if id in self._cloud.checker.ended:
                    continue
                raise Violated(f"{id} was acknowledged and is forgotten")
            if instance.reservation_id != reservation:
                raise Violated(f"{id} is of {instance.reservation_id}, acknowledged was {reservation}")
            if id in self.terminated and (instance.wish, instance.phase) != (Wish.TERMINATED, Phase.TERMINATED):
                raise Violated(f"{id} was acknowledged as terminating and is {instance.phase.name}")
            if id not in self.terminated:
                # Tags and switches have no token: an old request that arrives late wins over a newer one, as on Amazon's.
                if not self.orderly:
                    continue
                excused = id in self._cloud.ended_by_fault or instance.waiting_because is not None
                if not excused and instance.phase is not self.power.get(id, instance.phase):
                    raise Violated(f"{id} was acknowledged as {self.power[id].name} and is {instance.phase.name}")
                for key, value in self.tags.get(id, {}).items():
                    if instance.tags.get(key) != value:
                        raise Violated(f"{id} lost its tag {key}={value}: {instance.tags}")
