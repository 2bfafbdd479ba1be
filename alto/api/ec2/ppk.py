"""A private key in PuTTY's own form, as CreateKeyPair gives it for KeyFormat "ppk". It has no passphrase: EC2 asks for none.

Version 2 of the format (PuTTY's manual, appendix "PPK file format"): every PuTTY and WinSCP reads it, version 3 only those
since 2021, and without a passphrase the newer one protects nothing more.
"""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

_LINE = 64
_ENCRYPTION = "none"
# The format's own: with no passphrase behind it, the sum only finds damage.
_MAC_KEY = b"putty-private-key-file-mac-key"


def ppk(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, comment: str) -> str:
    """`comment` is one line of ASCII."""
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    algorithm, encoded = line.split()[:2]
    public, secret = base64.b64decode(encoded), _secret(private)
    covered = (algorithm.encode(), _ENCRYPTION.encode(), comment.encode(), public, secret)
    key = hashlib.sha1(_MAC_KEY, usedforsecurity=False).digest()
    mac = hmac.new(key, b"".join(_string(part) for part in covered), hashlib.sha1).hexdigest()
    return "".join(
        (
            f"PuTTY-User-Key-File-2: {algorithm}\r\nEncryption: {_ENCRYPTION}\r\nComment: {comment}\r\n",
            _lines("Public", public),
            _lines("Private", secret),
            f"Private-MAC: {mac}\r\n",
        )
    )


def _secret(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return _string(private.private_bytes_raw())
    numbers = private.private_numbers()
    return b"".join(_mpint(number) for number in (numbers.d, numbers.p, numbers.q, numbers.iqmp))


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _mpint(number: int) -> bytes:
    """RFC 4251: as short as it goes with the sign's bit clear."""
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _lines(name: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return f"{name}-Lines: {len(lines)}\r\n" + "".join(f"{line}\r\n" for line in lines)
