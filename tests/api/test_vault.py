"""Goal: a cloud's master key is made once, opens what it sealed, and is never exchanged in silence. Method: files."""

from pathlib import Path

import msgspec
import pytest

from alto.api.vault import CHANCE_BYTES, ensure_vault
from alto.daemons.allinone import Identity, check_master_key
from alto.kit.world import real_world
from alto.model.errors import AltoError, Refused


def test_the_same_master_key_ever_after(tmp_path: Path) -> None:
    world, path = real_world(), tmp_path / "master.key"
    vault = ensure_vault(world, path)
    assert path.stat().st_mode & 0o777 == 0o600
    chance = world.chance.bytes(CHANCE_BYTES)
    sealed = vault.seal(chance)
    # The key is the first 32 bytes of chance; nothing of it is to be seen.
    assert ensure_vault(world, path).open(sealed) == chance[:32].hex()
    assert chance[:32].hex() not in sealed
    other = ensure_vault(world, tmp_path / "other.key")
    for wrong in (sealed[:-6] + "AAAA==", "2" + sealed[1:], "no key", ""):
        with pytest.raises(Refused):
            vault.open(wrong)
    with pytest.raises(Refused):
        other.open(sealed)


def test_a_cloud_does_not_start_with_another_master_key(tmp_path: Path) -> None:
    world, path = real_world(), tmp_path / "master.key"
    fresh = Identity(cloud_id="c-1", host_id="h-1")
    check_master_key(world, path, fresh)  # there is none yet
    own = msgspec.structs.replace(fresh, vault=ensure_vault(world, path).fingerprint)
    check_master_key(world, path, own)
    path.unlink()
    with pytest.raises(AltoError, match="Put it back"):
        check_master_key(world, path, own)
    assert not path.exists()
    ensure_vault(world, path)
    with pytest.raises(AltoError, match="another cloud's"):
        check_master_key(world, path, own)
