"""The master key: a file that opens the cloud's ring of keys, which open the keys of disks; and how it is changed.

It is made at the first start, in a file of its own that only its owner reads, and never leaves the server's machine. It belongs
on other storage than the state's folder, where the ring is, and both belong in a backup: who has both and a disk can read the
disk, who has lost either has lost every encrypted disk (docs/adr/0016-encrypted-volumes.md).

A change writes the next master key beside the one that is, then the ring anew, sealed by it: that is the moment, whole or not
at all. Only then does the next take the other's place. Invariant: at each instant one of the two files opens the ring, and the
ring says which; who dies on the way goes on, or back, at the next start.

Clouds that are older than the ring sealed the keys of disks by the master key itself: it is the first of their ring.
"""

from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from alto.api.vault import KEY_BYTES, NONCE_BYTES, Vault, seal, unseal
from alto.kit.world import World
from alto.model.encryption import NEXT, KeyRing, fingerprint, older_fingerprint
from alto.model.errors import Unavailable

_WHAT = b"alto: a key of a cloud"


class MasterKey:
    def __init__(self, world: World, path: Path, ring: Path, *, older: str = "") -> None:
        """`older`: what a cloud that is older than its ring knew its master key by; "" for others."""
        self._world = world
        self._older = older
        self.path = path
        self._next = path.with_name(path.name + NEXT)
        self._ring = ring

    def check(self) -> None:
        """Changes nothing. Raises: Unavailable: there is a ring, or an older cloud, and nothing here opens it."""
        if self._world.files.exists(self._ring):
            ring, keys = self._read_ring(), (self._read(self.path), self._read(self._next))
            opens = any(fingerprint(key) == ring.master for key in keys if key)
        else:
            master = self._read(self.path)
            opens = not self._older or (master is not None and older_fingerprint(master) == self._older)
        if not opens:
            where = "say where this cloud's is with --master-key FILE"
            if not self._world.files.exists(self.path):
                raise Unavailable(f"The master key is not in {self.path}, and no encrypted volume opens without it: {where}")
            raise Unavailable(f"{self.path} is the master key of another cloud, or an old one: {where}")

    def open(self) -> Vault:
        """Made, if there is none; a change that was cut off goes on or back. Only by who has the store open: nobody else
        changes it meanwhile. Raises: Unavailable, as `check`."""
        self.check()
        files, chance = self._world.files, self._world.chance
        if not files.exists(self._ring):
            if not files.exists(self.path):
                self._write(self.path, chance.bytes(KEY_BYTES))
            master = self._read(self.path)
            if master is None:
                raise Unavailable(f"{self.path} is no master key: that is {KEY_BYTES} bytes in hexadecimal")
            fresh = chance.bytes(KEY_BYTES)
            self._write_ring(master, (master, fresh) if self._older else (fresh,))
        return Vault(*self._settle())

    def rotate(self, vault: Vault) -> None:
        """A new master key in the place of this one, and a new key in `vault`. Raises: Unavailable."""
        try:
            self.check()
            keys = (*self._settle(), self._world.chance.bytes(KEY_BYTES))
            master = self._world.chance.bytes(KEY_BYTES)
            self._write(self._next, master)
            self._write_ring(master, keys)
            vault.add(keys[-1])
            self._take_place(master)
        except OSError as error:
            raise Unavailable(
                f"The master key in {self.path} cannot be changed now: {error.strerror}. It opens this cloud, or "
                f"{self._next.name} beside it does, as alto doctor says: keep both until a change succeeds"
            ) from error

    def _settle(self) -> tuple[bytes, ...]:
        """The ring's keys; afterwards there is one master key, which opens it."""
        ring = self._read_ring()
        master, following = self._read(self.path), self._read(self._next)
        if following is not None and fingerprint(following) == ring.master:
            self._take_place(master := following)
        else:
            self._world.files.remove(self._next)
        assert master is not None
        try:
            return tuple(unseal(AESGCM(master), text, _WHAT) for text in ring.keys)
        except (InvalidTag, ValueError) as error:
            raise Unavailable(f"{self._ring} is damaged: put back a copy of it, or no encrypted volume opens") from error

    def _take_place(self, master: bytes) -> None:
        self._write(self.path, master)
        self._world.files.remove(self._next)

    def _read(self, path: Path) -> bytes | None:
        """None when there is none, or it is something else."""
        try:
            key = bytes.fromhex(self._world.files.read(path).decode())
        except (FileNotFoundError, ValueError):
            return None
        return key if len(key) == KEY_BYTES else None

    def _write(self, path: Path, master: bytes) -> None:
        self._world.files.write(path, master.hex().encode() + b"\n")

    def _read_ring(self) -> KeyRing:
        try:
            return msgspec.json.decode(self._world.files.read(self._ring), type=KeyRing)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._ring} is damaged: put back a copy of it, or no encrypted volume opens") from error

    def _write_ring(self, master: bytes, keys: tuple[bytes, ...]) -> None:
        cipher = AESGCM(master)
        nonces = [self._world.chance.bytes(NONCE_BYTES) for _ in keys]
        sealed = tuple(seal(cipher, key + nonce, _WHAT) for key, nonce in zip(keys, nonces, strict=True))
        self._world.files.write(self._ring, msgspec.json.encode(KeyRing(master=fingerprint(master), keys=sealed)))
