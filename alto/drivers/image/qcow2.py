"""May we open this qcow2 file at all? A bounded look at its header, before any other program parses it.

The format is QEMU's docs/interop/qcow2.txt. Images come from tenants, and disks were written by machines that may have been
taken over: a backing file or an external data file named in a header would make QEMU read this host's own files (the most
repeated bug of the field: CVE-2014-0134, CVE-2024-32498, CVE-2024-40767). Pure: bytes in, a sentence or None out.
"""

import struct

HEADER_BYTES = 112
MAGIC = b"QFI\xfb"
DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16
VIRTUAL_BYTES_MAX = 16 << 40  # EC2's largest volume
L1_BYTES_MAX = 32 << 20  # QEMU's own limit
LUKS, LUKS_EXTENSION = 2, 0x0537BE77


def refusal(header: bytes, file_bytes: int, *, may_have_backing: bool = False, encrypted: bool = False) -> str | None:
    """Why the file must not be used, as a sentence for the tenant; None when it may.

    `may_have_backing` is for our own overlays, whose backing file we name to QEMU ourselves, whatever the header says.
    `encrypted` is for our own files with a LUKS head: one of them that says that it is not encrypted was tampered with.
    """
    if len(header) < 72 or not header.startswith(MAGIC):
        return "The image is not in the qcow2 format"
    (version, backing_at, _backing_length, cluster_bits, size, crypt, l1_entries, l1_at) = struct.unpack_from(
        ">IQIIQIIQ", header, 4
    )
    (refcount_at, refcount_clusters, snapshots) = struct.unpack_from(">QII", header, 48)
    if version not in (2, 3):
        return f"The image is qcow2 of version {version}; versions 2 and 3 are known"
    if backing_at and not may_have_backing:
        return "The image names a backing file; register one that stands alone"
    if encrypted and crypt != LUKS:
        return "The disk should be encrypted, and is not"
    if crypt and not encrypted:
        return "The image is encrypted; register one that is not"
    if snapshots:
        return "The image has internal snapshots; register one without"
    if version == 3:
        if len(header) < 104:
            return "The image's header is cut off"
        (incompatible,) = struct.unpack_from(">Q", header, 72)
        if incompatible & EXTERNAL_DATA:
            return "The image keeps its data in another file; register one that stands alone"
        if incompatible & CORRUPT:
            return "The image is marked corrupt"
        if incompatible & ~(DIRTY | COMPRESSION | EXTENDED_L2):
            return "The image needs features that are not known here"
    if not 9 <= cluster_bits <= 21:
        return "The image's cluster size is out of range"
    if not 0 < size <= VIRTUAL_BYTES_MAX:
        return "The image's virtual size is out of range"
    cluster = 1 << cluster_bits
    needed = -(-size // (cluster * (cluster // 8)))
    if l1_entries * 8 > L1_BYTES_MAX or l1_entries < needed:
        return "The image's first table is out of range"
    if l1_at % cluster or l1_at + l1_entries * 8 > file_bytes:
        return "The image's first table lies outside of the file"
    if refcount_at % cluster or refcount_at == 0 or refcount_at + refcount_clusters * cluster > file_bytes:
        return "The image's reference counts lie outside of the file"
    return None


def virtual_bytes(header: bytes) -> int:
    """The size of the disk that a machine sees, of a header that was not refused."""
    (size,) = struct.unpack_from(">Q", header, 24)
    return int(size)


def empty(size: int, backing: str | None = None, *, luks_head: bytes | None = None) -> bytes:
    """An empty qcow2 file of `size` bytes, over the qcow2 file `backing` if there is one, as `qemu-img create` makes it.
    `luks_head`: its clusters are encrypted, under the key that this head has within.

    Ours because it can then be written whole, and synced, with the rest of a machine's files; and costs no process.
    """
    cluster_bits = 16
    cluster = 1 << cluster_bits
    l1_entries = -(-size // (cluster * (cluster // 8)))
    l1_clusters = -(-l1_entries * 8 // cluster)
    luks_clusters = -(-len(luks_head or b"") // cluster)
    extensions = struct.pack(">II8s", 0xE2792ACA, 5, b"qcow2") if backing is not None else b""
    # Clusters: 0 header, 1 table of reference counts, 2 the one block of them, 3... the first table, all empty, then LUKS.
    if luks_head is not None:
        extensions += struct.pack(">IIQQ", LUKS_EXTENSION, 16, (3 + l1_clusters) * cluster, len(luks_head))
    extensions += bytes(8)
    name = (backing or "").encode()
    name_at = HEADER_BYTES + len(extensions) if backing is not None else 0
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQIIB7x",
        *(MAGIC, 3, name_at, len(name), cluster_bits, size, 0 if luks_head is None else LUKS),
        *(l1_entries, 3 * cluster, cluster, 1),
        *(0, 0, 0, 0, 0, 4, HEADER_BYTES, 0),
    )
    counts = struct.pack(f">{3 + l1_clusters + luks_clusters}H", *[1] * (3 + l1_clusters + luks_clusters))
    parts = (header + extensions + name, struct.pack(">Q", 2 * cluster), counts)
    head = (luks_head or b"").ljust(luks_clusters * cluster, b"\0")
    return b"".join(part.ljust(cluster, b"\0") for part in parts) + bytes(l1_clusters * cluster) + head
