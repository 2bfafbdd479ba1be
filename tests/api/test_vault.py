"""Goal: what a cloud sealed, it opens, whatever master keys it has had; and none of those is exchanged in silence. Method: real
files, and a change of the master key that dies before each of its steps."""

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from alto.api.master_key import MasterKey
from alto.api.vault import CHANCE_BYTES, Vault
from alto.kit.world import RealFiles, World, real_world
from alto.model.errors import AltoError, Refused, Unavailable
from alto.ui.cli.context import Cloud
from alto.ui.cli.doctor import Verdict, examine_master_key

CHANCE = bytes(range(CHANCE_BYTES))
KEY = CHANCE[:32].hex()


def master_key(folder: Path, world: World | None = None) -> MasterKey:
    return MasterKey(world or real_world(), folder / "master.key", folder / "vault.json")


def test_what_was_sealed_is_opened_and_nothing_else() -> None:
    vault = Vault(bytes(32))
    sealed = vault.seal(CHANCE)
    # The key is the first 32 bytes of chance; nothing of it is to be seen.
    assert vault.open(sealed) == KEY
    assert KEY not in sealed
    for wrong in (sealed[:-6] + "AAAA==", "2" + sealed[1:], "0" + sealed[1:], "-1" + sealed[1:], "no key", "", "1.", "1.%"):
        with pytest.raises(Refused):
            vault.open(wrong)
    with pytest.raises(Refused):
        Vault(b"x" * 32).open(sealed)
    vault.add(b"y" * 32)
    later = vault.seal(CHANCE)
    assert vault.open(sealed) == vault.open(later) == KEY
    with pytest.raises(Refused):
        Vault(bytes(32)).open(later)


def test_the_same_keys_ever_after(tmp_path: Path) -> None:
    sealed = master_key(tmp_path).open().seal(CHANCE)
    assert master_key(tmp_path).open().open(sealed) == KEY
    for name in ("master.key", "vault.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_cloud_does_not_start_with_another_master_key(tmp_path: Path) -> None:
    mine, other, path = tmp_path / "mine", tmp_path / "other", tmp_path / "mine" / "master.key"
    for folder in (mine, other):
        folder.mkdir()
        master_key(folder).check()  # there is none yet
        master_key(folder).open()
        master_key(folder).check()
    own = path.read_bytes()
    path.unlink()
    for attempt in (master_key(mine).check, master_key(mine).open):
        with pytest.raises(AltoError, match="is not in"):
            attempt()
    assert not path.exists()
    path.write_bytes((other / "master.key").read_bytes())
    for attempt in (master_key(mine).check, master_key(mine).open):
        with pytest.raises(AltoError, match="another cloud"):
            attempt()
    path.write_bytes(own)
    (mine / "vault.json").write_bytes((mine / "vault.json").read_bytes().replace(b'"keys":["', b'"keys":["AAAA'))
    with pytest.raises(AltoError, match="damaged"):
        master_key(mine).open()


def test_a_cloud_older_than_the_ring_opens_what_it_sealed(tmp_path: Path) -> None:
    """Made here as such a cloud made it: AES-GCM by the master key itself, and what it was known by."""
    own, nonce, path = b"\x07" * 32, b"\x01" * 12, tmp_path / "master.key"
    sealed = "1." + b64encode(nonce + AESGCM(own).encrypt(nonce, CHANCE[:32], b"alto: the key of a disk")).decode()
    known = sha256(b"alto: the key of a disk" + own).hexdigest()[:32]

    def cloud() -> MasterKey:
        return MasterKey(real_world(), path, tmp_path / "vault.json", older=known)

    for wrong in (None, "08" * 32):
        if wrong is not None:
            path.write_text(wrong + "\n")
        with pytest.raises(Unavailable, match="is not in" if wrong is None else "another cloud"):
            cloud().check()
        with pytest.raises(Unavailable):
            cloud().open()
    assert not (tmp_path / "vault.json").exists()
    path.write_text(own.hex() + "\n")
    vault = cloud().open()
    assert vault.open(sealed) == KEY
    later = vault.seal(CHANCE)
    with pytest.raises(Refused):
        Vault(own).open(later)
    cloud().rotate(vault)
    again = cloud().open()
    assert again.open(sealed) == again.open(later) == KEY
    assert len(again.keys) == 3


def test_a_changed_master_key_is_the_only_one(tmp_path: Path) -> None:
    key = master_key(tmp_path)
    vault = key.open()
    first, sealed, ring = key.path.read_bytes(), vault.seal(CHANCE), (tmp_path / "vault.json").read_bytes()
    key.rotate(vault)
    later = vault.seal(CHANCE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["master.key", "vault.json"]
    again = master_key(tmp_path).open()
    assert again.open(sealed) == again.open(later) == vault.open(sealed) == KEY
    second = key.path.read_bytes()
    key.path.write_bytes(first)
    with pytest.raises(AltoError, match="an old one"):
        master_key(tmp_path).open()
    # Who has all of before opens what is of before.
    (tmp_path / "vault.json").write_bytes(ring)
    old = master_key(tmp_path).open()
    assert old.open(sealed) == KEY
    with pytest.raises(Refused):
        old.open(later)
    assert second != first


class Died(BaseException):
    pass


class MortalFiles(RealFiles):
    """Dies before the step that it is told."""

    def __init__(self, lives: int) -> None:
        self._lives = lives

    def _step(self) -> None:
        self._lives -= 1
        if self._lives < 0:
            raise Died

    def write(self, *arguments: Any, **more: Any) -> None:
        self._step()
        super().write(*arguments, **more)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)


@pytest.mark.parametrize("lives", range(5))
def test_who_dies_while_it_changes_is_opened_by_one_of_both(tmp_path: Path, lives: int) -> None:
    vault = master_key(tmp_path).open()
    sealed, first = vault.seal(CHANCE), (tmp_path / "master.key").read_bytes()
    with pytest.raises(Died):
        master_key(tmp_path, replace(real_world(), files=MortalFiles(lives))).rotate(vault)
    # One of its steps clears away what an earlier change left.
    done = lives >= 3
    finding = examine_master_key(tmp_path, None)
    assert (finding.verdict, "master.key.next opens" in finding.what) == ((Verdict.HINT if done else Verdict.OK), done)
    again = master_key(tmp_path)
    assert again.open().open(sealed) == KEY
    assert ((tmp_path / "master.key").read_bytes() != first) is done
    again.rotate(again.open())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["master.key", "vault.json"]
    assert master_key(tmp_path).open().open(sealed) == KEY


class ReadOnlyFiles(RealFiles):
    def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        raise OSError(30, "Read-only file system")


def test_a_master_key_that_cannot_be_changed_stays(tmp_path: Path) -> None:
    vault = master_key(tmp_path).open()
    sealed, was = vault.seal(CHANCE), (tmp_path / "master.key").read_bytes()
    with pytest.raises(Unavailable, match="Read-only"):
        master_key(tmp_path, replace(real_world(), files=ReadOnlyFiles())).rotate(vault)
    (tmp_path / "master.key").rename(tmp_path / "away")
    with pytest.raises(Unavailable, match="is not in"):
        master_key(tmp_path).rotate(vault)
    (tmp_path / "away").rename(tmp_path / "master.key")
    assert (tmp_path / "master.key").read_bytes() == was
    assert master_key(tmp_path).open().open(sealed) == KEY


def test_doctor_says_what_opens_nothing(tmp_path: Path) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "stick"
    state.mkdir()
    assert examine_master_key(state, None).verdict is Verdict.OK
    MasterKey(real_world(), elsewhere, state / "vault.json").open()
    cloud = Cloud("http://127.0.0.1:1", "us-east-1", "", "", master_key=str(elsewhere))
    assert examine_master_key(state, cloud).verdict is Verdict.OK
    assert "there is no" in examine_master_key(state, None).what
    elsewhere.write_text("00" * 32)
    assert "another's" in examine_master_key(state, cloud).what
    (state / "vault.json").write_text("{}")
    assert "damaged" in examine_master_key(state, cloud).what
