"""What seals the keys of encrypted disks: keys of the cloud's own, here as a server has them in its memory.

On the disk they are sealed themselves, by the master key (`master_key.py`), and each change of that one adds a key, so that
who had everything before it opens nothing that is made after. Not here: which host may have a key opened (`hosts/keys.py`).

AES-256 in GCM mode, which notices whatever was changed. A sealed key is text: the number of the cloud's key, a dot, and base64.
"""

import base64

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from alto.model.errors import Refused

KEY_BYTES = 32
NONCE_BYTES = 12
CHANCE_BYTES = KEY_BYTES + NONCE_BYTES
_WHAT = b"alto: the key of a disk"


class Vault:
    def __init__(self, *keys: bytes) -> None:
        """The cloud's, the oldest first; never none."""
        self._keys: list[bytes] = []
        self._ciphers: list[AESGCM] = []
        for key in keys:
            self.add(key)

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(self._keys)

    def add(self, key: bytes) -> None:
        """It seals from now on; the others open what they sealed."""
        self._keys.append(key)
        self._ciphers.append(AESGCM(key))

    def seal(self, chance: bytes) -> str:
        """A new key, sealed. `chance` has CHANCE_BYTES, for this one alone."""
        return f"{len(self._keys)}.{seal(self._ciphers[-1], chance, _WHAT)}"

    def open(self, sealed: str) -> str:
        """In hexadecimal. Raises: Refused: no key of this cloud sealed it."""
        number, _, text = sealed.partition(".")
        try:
            if number not in map(str, range(1, len(self._keys) + 1)):
                raise ValueError(number)
            return unseal(self._ciphers[int(number) - 1], text, _WHAT).hex()
        except (InvalidTag, ValueError) as error:
            raise Refused("KeyNotOpened", "The key of this disk was not sealed by this cloud", status=403) from error


def seal(cipher: AESGCM, chance: bytes, what: bytes) -> str:
    key, nonce = chance[:KEY_BYTES], chance[KEY_BYTES:CHANCE_BYTES]
    return base64.b64encode(nonce + cipher.encrypt(nonce, key, what)).decode()


def unseal(cipher: AESGCM, text: str, what: bytes) -> bytes:
    """Raises: InvalidTag, ValueError."""
    data = base64.b64decode(text, validate=True)
    return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], what)
