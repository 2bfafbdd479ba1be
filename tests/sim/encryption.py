"""What a simulator can know of encryption: whose home a disk's key is at, which key its bytes have, and whether one is anywhere
in the clear. The hosts' storages say what was really done; the rows, what people were told."""

from collections.abc import Iterable, Iterator

from alto.drivers.volume.fake import FOLDER, FakeVolume
from alto.model.encryption import Encryption
from alto.model.volumes import Snapshot, Volume
from alto.plan.violations import State
from tests.sim.api import VAULT
from tests.sim.hosts import SimHost


def _key(encryption: Encryption | None) -> str | None:
    return encryption.sealed_key if encryption is not None else None


def homes(state: State, sealed: str) -> set[str | None]:
    """Hosts of the volumes and snapshots that have this key; of one that is made with its instance, the instance's."""
    hosts = {one.id: one.host_id for one in state.instances}
    found = {one.host_id or hosts.get(one.instance_id or "") for one in state.volumes if _key(one.encryption) == sealed}
    return found | {one.host_id for one in state.snapshots if _key(one.encryption) == sealed}


def keys_of(state: State) -> set[str]:
    """Sealed, of all that is encrypted."""
    rows: list[Volume | Snapshot] = [*state.volumes, *state.snapshots]
    return {key for one in rows if (key := _key(one.encryption)) is not None}


def bytes_differ(state: State, hosts: Iterable[SimHost]) -> list[str]:
    """Volumes and snapshots whose bytes have another key than their row, or lie over bytes that another key opens."""
    rows: dict[str, Encryption | None] = {one.id: one.encryption for one in (*state.volumes, *state.snapshots)}
    return [sentence for host in hosts for sentence in _differ(rows, host)]


def _differ(rows: dict[str, Encryption | None], host: SimHost) -> Iterator[str]:
    stored: dict[str, FakeVolume] = {**host.storage.volumes, **host.storage.snapshots}
    for id, one in sorted(stored.items()):
        if id in rows and _key(rows[id]) != one.sealed_key:
            yield f"{id} on {host.id} has the key {one.sealed_key}, and its row says {_key(rows[id])}"
        if one.base is not None and one.base.path.parent == FOLDER and one.base.sealed_key != one.sealed_key:
            yield f"{id} on {host.id} lies over bytes that another key opens"


def in_the_clear(keys: Iterable[str], database: bytes, hosts: Iterable[SimHost]) -> list[str]:
    """Where one of these keys, which are sealed, is to be read."""
    places = {"the database": database}
    for host in hosts:
        places |= {f"{path} on {host.id}": data for path, data in host.disk.files.items()}
    clear = [VAULT.open(key) for key in sorted(keys)]
    return [
        f"a key is to be read in {name}"
        for name, data in sorted(places.items())
        if any(key.encode() in data or bytes.fromhex(key) in data for key in clear)
    ]
