"""Goal: PuTTY reads the keys that are made for it.
Method: one key is compared with the file that puttygen 0.78 wrote of it; of an RSA key, whose numbers are not ours to choose,
the file's own parts are read and must belong together."""

import base64
import hashlib
import hmac
import math

from cryptography.hazmat.primitives.asymmetric import ed25519

from alto.api.ec2.ppk import ppk
from tests.api.cloud import Tenant

# puttygen key -C "my key" -O private --ppk-param version=2, of the seed 128, 129 ... 159.
BY_PUTTYGEN = """\
PuTTY-User-Key-File-2: ssh-ed25519
Encryption: none
Comment: my key
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIM0Us3+VbpUxlP9/tzs9gdzFYdYadTgJS3w+GmQ+
5fOq
Private-Lines: 1
AAAAIICBgoOEhYaHiImKi4yNjo+QkZKTlJWWl5iZmpucnZ6f
Private-MAC: 407203333b41b7c07bdc7f7b65279997ad8cdad9
"""


def parts(file: str) -> dict[str, str]:
    """By name; the base64 lines of a part joined."""
    lines, found = file.split("\r\n"), {}
    while lines and lines[0]:
        name, _, value = lines.pop(0).partition(": ")
        if name.endswith("-Lines"):
            count = int(value)
            value, lines = "".join(lines[:count]), lines[count:]
        found[name] = value
    return found


def strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def test_as_puttygen_writes_it() -> None:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(128, 160)))
    assert ppk(private, "my key") == BY_PUTTYGEN.replace("\n", "\r\n")


def test_a_made_key_fits_its_public_half_and_is_whole(tenant: Tenant) -> None:
    file = tenant("CreateKeyPair", KeyName="win", KeyFormat="ppk")["KeyMaterial"]
    read = parts(file)
    assert (read["PuTTY-User-Key-File-2"], read["Encryption"], read["Comment"]) == ("ssh-rsa", "none", "win")
    (listed,) = tenant("DescribeKeyPairs", KeyNames=["win"], IncludePublicKey=True)["KeyPairs"]
    assert listed["PublicKey"].split()[1] == read["Public-Lines"]
    public, private = (base64.b64decode(read[name]) for name in ("Public-Lines", "Private-Lines"))
    _, e, n = (int.from_bytes(one, "big") for one in strings(public))
    d, p, q, inverse = (int.from_bytes(one, "big") for one in strings(private))
    assert p * q == n
    assert d * e % math.lcm(p - 1, q - 1) == 1
    assert inverse * q % p == 1
    assert all(one[0] < 128 for one in strings(private)), "no number reads as a negative one"
    covered = b"".join(len(one).to_bytes(4, "big") + one for one in (b"ssh-rsa", b"none", b"win", public, private))
    key = hashlib.sha1(b"putty-private-key-file-mac-key").digest()
    assert hmac.new(key, covered, "sha1").hexdigest() == read["Private-MAC"]


def test_an_ed25519_key_too(tenant: Tenant) -> None:
    read = parts(tenant("CreateKeyPair", KeyName="win", KeyType="ed25519", KeyFormat="ppk")["KeyMaterial"])
    assert read["PuTTY-User-Key-File-2"] == "ssh-ed25519"
    (seed,) = strings(base64.b64decode(read["Private-Lines"]))
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert strings(base64.b64decode(read["Public-Lines"])) == [b"ssh-ed25519", public]
