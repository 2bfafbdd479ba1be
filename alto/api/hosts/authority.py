"""The cloud's own certificate authority, kept with its state: made at the first need, the same ever after.

Its fingerprint is in every invitation, and every host trusts it and nothing else. Whoever has `ca.key` can pretend to be this
cloud or any of its hosts: it is readable by its owner only, and never leaves the machine. Not here: who is let in.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from alto.kit.certificates import Pair, client_certificate, fingerprint, new_authority, server_certificate
from alto.kit.world import Chance, World
from alto.model.joining import door_name

CERTIFICATE, KEY = "ca.pem", "ca.key"
DOOR_CERTIFICATE, DOOR_KEY = "door.pem", "door.key"


class Authority:
    def __init__(self, world: World, folder: Path, cloud_id: str) -> None:
        """Reads what is in `folder`, or makes it."""
        self._world = world
        self._folder = folder
        self._cloud_id = cloud_id
        self._pair = _ensure(world, folder, cloud_id)

    @property
    def certificate(self) -> str:
        """PEM."""
        return self._pair.certificate

    @property
    def fingerprint(self) -> bytes:
        return fingerprint(self._pair.certificate)

    def certify(self, request: str, host_id: str) -> str:
        """A host's certificate, PEM. Raises: ValueError: it is no sound request."""
        return client_certificate(self._pair, request, host_id, serial=_serial(self._world.chance), now=self._world.clock.now())

    def context(self, names: Sequence[str] = ()) -> ssl.SSLContext:
        """For the door: TLS 1.2 or newer, under the cloud's own name and `names`. A client may show a certificate; one that is
        not of this authority ends the handshake."""
        world = self._world
        pair = server_certificate(
            self._pair, [door_name(self._cloud_id), *names], serial=_serial(world.chance), now=world.clock.now()
        )
        world.files.write(self._folder / DOOR_KEY, pair.key.encode())
        world.files.write(self._folder / DOOR_CERTIFICATE, (pair.certificate + self._pair.certificate).encode(), mode=0o644)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._folder / DOOR_CERTIFICATE, self._folder / DOOR_KEY)
        context.load_verify_locations(cadata=self._pair.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


def _ensure(world: World, folder: Path, cloud_id: str) -> Pair:
    files = world.files
    if not files.exists(folder / CERTIFICATE):
        files.make_dirs(folder, mode=0o711)
        made = new_authority(f"Alto cloud {cloud_id}", serial=_serial(world.chance), now=world.clock.now())
        # The key first: a certificate that is there always has its key.
        files.write(folder / KEY, made.key.encode())
        files.write(folder / CERTIFICATE, made.certificate.encode(), mode=0o644)
    return Pair(certificate=files.read(folder / CERTIFICATE).decode(), key=files.read(folder / KEY).decode())


def _serial(chance: Chance) -> int:
    """Positive, and at most 159 bits, as RFC 5280 has it."""
    return int.from_bytes(chance.bytes(16)) | 1
