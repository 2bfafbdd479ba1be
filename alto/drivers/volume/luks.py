"""The head of an encrypted disk, as QEMU opens it: LUKS version 1 within a qcow2 file. Pure: keys and chance come in as bytes.

Ours and not `qemu-img`'s because it is then written whole, and synced, with the rest of a volume's files, costs no process, and
does not measure this machine's processor for a number of rounds: a disk's key is 32 bytes of chance, which nobody guesses,
so that a thousand rounds are as good as a million, and each opening costs a millisecond. QEMU checks all that is written here
when it opens the disk. The format is the "LUKS On-Disk Format Specification", version 1.2.3, and QEMU's docs/interop/qcow2.txt.

The invariant: what is sealed here is the disk's master key, which is drawn anew for each file; its blocks are AES-256 in XTS
mode, by their place in the file. Not here: who keeps the keys (`model/keys.py`).
"""

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SECTOR = 512
ROUNDS = 1000  # the least that LUKS knows
MASTER_BYTES = 64  # two keys of AES-256, as XTS needs
STRIPES, SLOTS = 4000, 8
SALT_BYTES, DIGEST_BYTES = 32, 20
_ACTIVE, _INACTIVE = 0x00AC71F3, 0x0000DEAD
_FIRST_SLOT = 4096 // SECTOR
# Each slot begins at a multiple of 4096 bytes.
_SLOT_SECTORS = -(-STRIPES * MASTER_BYTES // 4096) * 4096 // SECTOR
HEAD_BYTES = (_FIRST_SLOT + SLOTS * _SLOT_SECTORS) * SECTOR
CHANCE_BYTES = MASTER_BYTES + SLOTS * SALT_BYTES + SALT_BYTES + 16 + (STRIPES - 1) * MASTER_BYTES


def head(key: bytes, chance: bytes) -> bytes:
    """HEAD_BYTES that one key opens; `chance` has CHANCE_BYTES."""
    assert len(chance) == CHANCE_BYTES
    master, chance = chance[:MASTER_BYTES], chance[MASTER_BYTES:]
    salts = [chance[at : at + SALT_BYTES] for at in range(0, SLOTS * SALT_BYTES, SALT_BYTES)]
    chance = chance[SLOTS * SALT_BYTES :]
    digest_salt, chance = chance[:SALT_BYTES], chance[SALT_BYTES:]
    uuid, filling = _uuid(chance[:16]), chance[16:]
    digest = hashlib.pbkdf2_hmac("sha256", master, digest_salt, ROUNDS, DIGEST_BYTES)
    payload = _FIRST_SLOT + SLOTS * _SLOT_SECTORS
    header = struct.pack(
        ">6sH32s32s32sII20s32sI40s",
        *(b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", payload, MASTER_BYTES),
        *(digest, digest_salt, ROUNDS, uuid),
    )
    for slot, salt in enumerate(salts):
        state, rounds = (_ACTIVE, ROUNDS) if slot == 0 else (_INACTIVE, 0)
        at = _FIRST_SLOT + slot * _SLOT_SECTORS
        header += struct.pack(">II32sII", state, rounds, salt if slot == 0 else b"", at, STRIPES)
    sealing = hashlib.pbkdf2_hmac("sha256", key, salts[0], ROUNDS, MASTER_BYTES)
    sealed = _encrypted(sealing, _split(master, filling))
    return (header.ljust(_FIRST_SLOT * SECTOR, b"\0") + sealed).ljust(HEAD_BYTES, b"\0")


def _uuid(chance: bytes) -> bytes:
    digits = chance.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).encode()


def _split(master: bytes, filling: bytes) -> bytes:
    """Spread over many sectors, all of which are needed to have it again: a disk that forgets one has forgotten the key."""
    mixed = bytes(MASTER_BYTES)
    for at in range(0, len(filling), MASTER_BYTES):
        mixed = _diffused(_xor(mixed, filling[at : at + MASTER_BYTES]))
    return filling + _xor(mixed, master)


def _diffused(block: bytes) -> bytes:
    size = hashlib.sha256().digest_size
    parts = [struct.pack(">I", number) + block[number * size : (number + 1) * size] for number in range(len(block) // size)]
    return b"".join([hashlib.sha256(part).digest() for part in parts])


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))


def _encrypted(key: bytes, data: bytes) -> bytes:
    sectors = []
    for number in range(len(data) // SECTOR):
        cipher = Cipher(algorithms.AES(key), modes.XTS(number.to_bytes(16, "little"))).encryptor()
        sectors.append(cipher.update(data[number * SECTOR : (number + 1) * SECTOR]))
    return b"".join(sectors)
