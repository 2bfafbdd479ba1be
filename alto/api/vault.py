"""The cloud's master key, and what it seals: the keys of encrypted disks.

It is made at the first start, in a file of its own that only its owner reads, and never leaves the server's machine. Whoever
has it and a disk can read the disk; who has lost it has lost every encrypted disk: it belongs on other storage than disks do,
and in a backup (docs/adr/0016-encrypted-volumes.md). Not here: which host may have a key opened (`api/hosts/session.py`).

AES-256 in GCM mode, which notices whatever was changed. A sealed key is text: the way it was sealed, a dot, and base64.
"""

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from alto.kit.world import World
from alto.model.errors import Refused

MASTER_BYTES = KEY_BYTES = 32
NONCE_BYTES = 12
CHANCE_BYTES = KEY_BYTES + NONCE_BYTES
_WAY = "1"
_WHAT = b"alto: the key of a disk"


class Vault:
    def __init__(self, master: bytes) -> None:
        self._cipher = AESGCM(master)
        self.fingerprint = hashlib.sha256(_WHAT + master).hexdigest()[:32]  # tells two apart, and nothing of either

    def seal(self, chance: bytes) -> str:
        """A new key, sealed. `chance` has CHANCE_BYTES, for this one alone."""
        key, nonce = chance[:KEY_BYTES], chance[KEY_BYTES:CHANCE_BYTES]
        return f"{_WAY}.{base64.b64encode(nonce + self._cipher.encrypt(nonce, key, _WHAT)).decode()}"

    def open(self, sealed: str) -> str:
        """In hexadecimal. Raises: Refused: this is not the master key that it was sealed with."""
        way, _, text = sealed.partition(".")
        try:
            data = base64.b64decode(text, validate=True)
            if way != _WAY:
                raise ValueError(way)
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _WHAT).hex()
        except (InvalidTag, ValueError) as error:
            raise Refused(
                "KeyNotOpened", "The key of this disk was sealed with another master key than this cloud has", status=403
            ) from error


def ensure_vault(world: World, path: Path) -> Vault:
    """With the master key that is there, or a new one."""
    if not world.files.exists(path):
        world.files.write(path, world.chance.bytes(MASTER_BYTES).hex().encode() + b"\n")
    return Vault(bytes.fromhex(world.files.read(path).decode().strip()))
