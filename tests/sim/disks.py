"""Somebody who uses volumes and snapshots in a simulated cloud, beside the other clients; in seeds whose name begins with
"disks", so that the histories of all others stay what they are.

What is acknowledged is remembered: data that was written before a snapshot was asked for is in it, and in what is made from it;
a volume that was acknowledged and not deleted is there at the end; what was acknowledged as encrypted with a key is so, and in
hosts' storages too, and what is made of it is encrypted.
"""

import asyncio
import random
from contextlib import suppress
from typing import Any

from alto.model.errors import AltoError
from alto.model.instances import Phase
from alto.model.volumes import SnapshotPhase, Volume, VolumePhase
from alto.plan.violations import State
from alto.store.store import Reader
from tests.sim.api import REGION
from tests.sim.check import Violated
from tests.sim.cloud import SimCloud
from tests.sim.encryption import bytes_differ, in_the_clear, keys_of
from tests.sim.workload import Client

PREFIX = "disks"
ZONE = f"{REGION}a"
CLEAN_TRIES = 400
METHODS = (
    *("create_volume", "grow", "delete_volume", "snapshot", "begin_snapshot", "finish_snapshot", "delete_snapshot"),
    *("wire", "backup"),
)


def has_disks(seed: str) -> bool:
    return seed.startswith(PREFIX)


def make_faults(cloud: SimCloud) -> None:
    chance = random.Random(f"disk faults {cloud.seed}")
    for host in cloud.hosts:
        for knobs in (host.volume_knobs, host.compute_knobs):
            for method in METHODS:
                knobs.delay_s[method] = (0.0, chance.choice((0.01, 0.5, 3.0)))
                if chance.random() < 0.4:
                    knobs.fault_chance[method] = chance.uniform(0, 0.4)


class DiskClient(Client):
    def __init__(self, cloud: SimCloud, number: int, *, actions: int, pace_s: float) -> None:
        super().__init__(cloud, number, actions=actions, pace_s=pace_s)
        self._written = 0
        self._locks = random.Random(f"{self._name} locks {cloud.seed}")
        self.kms_keys: dict[str, str] = {}  # volume or snapshot -> as it was acknowledged; "": not encrypted
        self._sealed: set[str] = set()  # every key of a disk that ever was seen
        cloud.checker.more.append(lambda before, state: self._look(state))
        self.volumes: set[str] = set()  # acknowledged
        self.deleted: set[str] = set()  # asked for, whatever was answered
        self.words: dict[str, tuple[str, ...]] = {}  # snapshot -> what must be in it

    async def run(self) -> None:
        actions = (
            (self.launch_one, 3),
            (self.terminate, 1),
            (self.stop, 1),
            (self.start, 1),
            (self.create, 4),
            (self.attach, 6),
            (self.detach, 4),
            (self.detach_root, 3),
            (self.attach_root, 4),
            (self.write, 4),
            (self.snapshot, 4),
            (self.restore, 3),
            (self.copy, 4),
            (self.change_default, 2),
            (self.pry, 2),
            (self.grow, 2),
            (self.delete, 2),
            (self.delete_snapshot, 2),
        )
        for _ in range(self._actions):
            await asyncio.sleep(self._chance.uniform(0, self._pace_s))
            action = self._chance.choices([one for one, _ in actions], [weight for _, weight in actions])[0]
            await action()

    async def create(self, **more: Any) -> None:
        self._tokens += 1
        wish = {"AvailabilityZone": ZONE, "ClientToken": f"{self._name}-{self._tokens}", **({"Size": 1} | more)}
        answer = await self._ask("CreateVolume", wish | self._lock(more.get("SnapshotId")))
        if isinstance(answer, dict):
            self.volumes.add(answer["VolumeId"])
            self.kms_keys[answer["VolumeId"]] = answer.get("KmsKeyId", "")
            if self.kms_keys.get(more.get("SnapshotId", "")) and not answer["Encrypted"]:
                raise Violated(f"{answer['VolumeId']} was made of an encrypted snapshot, and is not encrypted")

    async def launch_one(self) -> None:
        lock = self._lock()
        await super().launch_one(**({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": lock}]} if lock else {}))

    def _lock(self, source: str | None = None) -> dict[str, Any]:
        """How the next thing is to be encrypted. What is made of an encrypted snapshot often gets a key of its own."""
        match self._locks.randrange(2 if self.kms_keys.get(source or "") else 5):
            case 0:
                return {"Encrypted": True}
            case 1:
                return {"Encrypted": True, "KmsKeyId": f"alias/{self._locks.choice('ab')}"}
        return {}

    async def copy(self) -> None:
        if source := self._whole():
            words = self.words[source]
            answer = await self._ask("CopySnapshot", {"SourceRegion": REGION, "SourceSnapshotId": source} | self._lock(source))
            if isinstance(answer, dict):
                self.words[answer["SnapshotId"]] = words

    def _whole(self) -> str | None:
        """A snapshot that is completed, if there is one."""
        state = self._cloud.checker.state()
        whole = [one.id for one in state.snapshots if one.id in self.words and one.phase is SnapshotPhase.COMPLETED]
        return self._chance.choice(whole or [*sorted(self.words), None])

    async def change_default(self) -> None:
        actions = ("EnableEbsEncryptionByDefault", "DisableEbsEncryptionByDefault", "ResetEbsDefaultKmsKeyId")
        await self._ask(self._chance.choice(actions), {})
        if self._chance.random() < 0.5:
            await self._ask("ModifyEbsDefaultKmsKeyId", {"KmsKeyId": f"alias/{self._chance.choice('ab')}"})

    async def pry(self) -> None:
        """A host asks for any key at all; whether it may have it, others look after (cloud.py)."""
        host = self._chance.choice(self._cloud.hosts)
        sealed = sorted(keys_of(self._cloud.checker.state()))
        if sealed and host.agent is not None:
            with suppress(AltoError, OSError, TimeoutError):
                await host.agent._open_key(self._chance.choice(sealed))

    def _look(self, state: State) -> list[str]:
        self._sealed |= keys_of(state)
        return bytes_differ(state, self._cloud.hosts)

    async def attach(self) -> None:
        """Mostly what can be: an instance that runs, on the host of a volume that is free."""
        state = self._cloud.checker.state()
        homes = {one.id: one.host_id for one in state.volumes if one.id in self.volumes and one.instance_id is None}
        pairs = [
            (one.id, id)
            for one in state.instances
            for id, home in sorted(homes.items())
            if one.id in self.launched and one.phase is Phase.RUNNING and home == one.host_id
        ]
        instance, volume = self._chance.choice(pairs) if pairs else (self._some(), self._volume())
        if instance and volume:
            device = f"/dev/sd{self._chance.choice('fghij')}"
            await self._ask("AttachVolume", {"VolumeId": volume, "InstanceId": instance, "Device": device})

    async def detach(self) -> None:
        attached = [one.id for one in self._cloud.checker.state().volumes if one.id in self.volumes and one.instance_id]
        if volume := self._chance.choice(attached) if attached else self._volume():
            await self._ask("DetachVolume", {"VolumeId": volume})

    async def detach_root(self) -> None:
        """Of one that is stopped, mostly: the volume is kept from then on, whatever becomes of the instance."""
        own = [one for one in self._cloud.checker.state().instances if one.id in self.launched and not one.root.away]
        if instance := self._chance.choice([one for one in own if one.phase is Phase.STOPPED] or own or [None]):
            answer = await self._ask("DetachVolume", {"VolumeId": instance.root.volume_id, "InstanceId": instance.id})
            if isinstance(answer, dict):
                self.volumes.add(instance.root.volume_id)

    async def attach_root(self) -> None:
        """Its own or another's, in the place of one that was given up."""
        state = self._cloud.checker.state()
        rootless = [one for one in state.instances if one.id in self.launched and one.root.away]
        if not rootless:
            return
        instance = self._chance.choice(rootless)
        free = [one.id for one in state.volumes if one.id in self.volumes and one.instance_id is None and one.boot_source]
        if volume := self._chance.choice(free or [self._volume()]):
            await self._ask("AttachVolume", {"VolumeId": volume, "InstanceId": instance.id, "Device": instance.root.device})

    async def write(self) -> None:
        """As a guest would, when the bytes are there."""
        volume = self._volume()
        for host in self._cloud.hosts:
            if volume in host.storage.volumes:
                self._written += 1
                host.storage.write(volume, f"word {self._written}")

    async def snapshot(self) -> None:
        stored = [id for host in self._cloud.hosts for id in sorted(host.storage.volumes) if id in self.volumes - self.deleted]
        volume = self._chance.choice(stored) if stored else self._volume()
        if volume is None:
            return
        before = next((host.storage.volumes[volume].words for host in self._cloud.hosts if volume in host.storage.volumes), ())
        answer = await self._ask("CreateSnapshot", {"VolumeId": volume})
        if isinstance(answer, dict):
            self.words[answer["SnapshotId"]] = before
            self.kms_keys[answer["SnapshotId"]] = answer.get("KmsKeyId", "")
            if answer["Encrypted"] is not bool(self.kms_keys.get(volume, answer["Encrypted"])):
                raise Violated(f"{answer['SnapshotId']} is encrypted: {answer['Encrypted']}; its volume {volume} is not so")

    async def restore(self) -> None:
        if snapshot := self._whole():
            await self.create(SnapshotId=snapshot)

    async def grow(self) -> None:
        if volume := self._volume():
            await self._ask("ModifyVolume", {"VolumeId": volume, "Size": self._chance.randint(2, 4)})

    async def delete(self) -> None:
        if volume := self._volume():
            self.deleted.add(volume)
            await self._ask("DeleteVolume", {"VolumeId": volume})

    async def delete_snapshot(self) -> None:
        if self.words:
            snapshot = self._chance.choice(sorted(self.words))
            del self.words[snapshot]
            await self._ask("DeleteSnapshot", {"SnapshotId": snapshot})

    def _volume(self) -> str | None:
        living = sorted(self.volumes - self.deleted)
        return self._chance.choice(living) if living else None

    def check_promises(self, reader: Reader) -> None:
        super().check_promises(reader)
        for id in self.volumes - self.deleted:
            volume = reader.find(Volume, id)
            if volume is None or volume.phase is not VolumePhase.MADE:
                raise Violated(f"{id} was acknowledged, and is {volume.phase if volume else 'gone'}")
        self._check_words()
        state = self._cloud.checker.state()
        for one in (*state.volumes, *state.snapshots):
            key = one.encryption.kms_key_id if one.encryption is not None else ""
            if key != self.kms_keys.get(one.id, key):
                raise Violated(f"{one.id} was acknowledged with the key {self.kms_keys[one.id]!r}, and has {key!r}")
        if wrong := in_the_clear(self._sealed, self._cloud.database.image(), self._cloud.hosts):
            raise Violated("; ".join(wrong))

    def _check_words(self) -> None:
        for snapshot in self._cloud.checker.state().snapshots:
            wanted = self.words.get(snapshot.id)
            if wanted is None:
                continue
            if snapshot.phase is not SnapshotPhase.COMPLETED:
                raise Violated(f"{snapshot.id} was acknowledged, and is {snapshot.phase}: {snapshot.fault}")
            kept = next(host.storage.snapshots[snapshot.id] for host in self._cloud.hosts if host.id == snapshot.host_id)
            if kept.words[: len(wanted)] != wanted:
                raise Violated(f"{snapshot.id} lacks what was written before: {wanted}, and has {kept.words}")

    async def clean_up(self) -> None:
        await super().clean_up()
        for _ in range(CLEAN_TRIES):
            state = self._cloud.checker.state()
            own = [one for one in state.volumes if one.account and one.host_id is not None]
            snapshots = [one for one in state.snapshots if one.account]
            self.deleted |= {one.id for one in own}
            for volume in own:
                if volume.instance_id is None:
                    await self._ask("DeleteVolume", {"VolumeId": volume.id})
            for snapshot in snapshots:
                self.words.pop(snapshot.id, None)
                await self._ask("DeleteSnapshot", {"SnapshotId": snapshot.id})
            if not own and not snapshots:
                return
            await asyncio.sleep(2.0)
        raise Violated("volumes and snapshots cannot be given back")
