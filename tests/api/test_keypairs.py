"""Goal: key pairs are EC2's, down to the fingerprint. Method: fingerprints are computed by other means (ssh-keygen's and
OpenSSL's definitions, as the user guide's "Verify the fingerprint" gives them), never by the code under test."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.api.cloud import NOW, Cloud, Tenant

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def openssh(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def test_the_private_rsa_key_fits_the_public_one_and_the_fingerprint(tenant: Tenant) -> None:
    made = tenant("CreateKeyPair", KeyName="alice")
    private = serialization.load_pem_private_key(made["KeyMaterial"].encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert made["KeyMaterial"].startswith("-----BEGIN RSA PRIVATE KEY-----")
    # openssl pkcs8 -in key.pem -inform PEM -outform DER -topk8 -nocrypt | openssl sha1 -c
    der = private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert made["KeyFingerprint"] == hashlib.sha1(der).digest().hex(":")
    (shown,) = tenant("DescribeKeyPairs", IncludePublicKey=True)["KeyPairs"]
    assert shown["PublicKey"].split()[:2] == openssh(private).decode().split()
    assert shown["KeyType"] == "rsa"
    assert shown["CreateTime"].timestamp() == NOW
    assert shown["KeyPairId"] == made["KeyPairId"]


def test_an_ed25519_key(tenant: Tenant) -> None:
    made = tenant("CreateKeyPair", KeyName="alice", KeyType="ed25519")
    private = serialization.load_ssh_private_key(made["KeyMaterial"].encode(), None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    blob = base64.b64decode(openssh(private).split()[1])
    assert made["KeyFingerprint"].rstrip("=") == base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def test_the_private_half_is_shown_once(cloud: Cloud, tenant: Tenant) -> None:
    made = tenant("CreateKeyPair", KeyName="alice", KeyType="ed25519")
    (shown,) = tenant("DescribeKeyPairs")["KeyPairs"]
    assert "KeyMaterial" not in shown
    assert "PublicKey" not in shown
    secret = made["KeyMaterial"].splitlines()[1].encode()
    image = cloud.store._writer.serialize("main")
    assert secret not in image


def test_an_imported_rsa_key_has_the_md5_of_its_public_half(tenant: Tenant) -> None:
    made = tenant("ImportKeyPair", KeyName="mine", PublicKeyMaterial=openssh(RSA) + b" me@home\n")
    der = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert made["KeyFingerprint"] == hashlib.md5(der).digest().hex(":")
    (shown,) = tenant("DescribeKeyPairs", KeyNames=["mine"], IncludePublicKey=True)["KeyPairs"]
    assert shown["PublicKey"].encode() == openssh(RSA) + b" me@home"


def test_a_fingerprint_that_others_published(tenant: Tenant) -> None:
    # A key and the fingerprint that EC2 gave it, as they stand in another project's published tests.
    material = (
        b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDusXfgTE4eBP50NglSzCSEGnIL6+cr6m3H6cZANOQ+P1o/W4BdtcAL3sor4iGi7SOeJgo8"
        b"kweyMQrhrt6HaKGgromRiz37LQx4YIAcBi4Zd023mO/V7Rc2Chh18mWgLSmA6ng+j37ip6452zxtv0jHAz9pJolbKBpJzbZlPN45ZCTk9ck0"
        b"fSVHRl6VRSSPQcpqi65XpRf+35zNOCGCc1mAOOTmw59Q2a6A3t8mL7r91aM5q6QOQm219lctFM8O7HRJnDgmhGpnjRwE1LyKktWTbgFZ4SNW"
        b"U2XqusUO07jKuSxzPumXBeU+JEtx0J1tqZwJlpGt2R+0qN7nKnPl2+hx"
    )
    made = tenant("ImportKeyPair", KeyName="mine", PublicKeyMaterial=material)
    assert made["KeyFingerprint"] == "6a:49:07:1c:7e:bd:d2:bd:96:25:fe:b5:74:83:ae:fd"


@pytest.mark.parametrize("form", ["line", "no comment", "encoded twice", "pem", "der in base64", "rfc4716"])
def test_forms_of_public_keys(tenant: Tenant, form: str) -> None:
    line, public = openssh(RSA), RSA.public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    blob = line.split()[1]
    folded = b"\n".join(blob[at : at + 70] for at in range(0, len(blob), 70))
    material = {
        "line": line + b" comment with blanks",
        "no comment": line,
        "encoded twice": base64.b64encode(line),
        "pem": public.public_bytes(serialization.Encoding.PEM, info),
        "der in base64": base64.b64encode(public.public_bytes(serialization.Encoding.DER, info)),
        "rfc4716": b'---- BEGIN SSH2 PUBLIC KEY ----\nComment: "2048-bit RSA"\n'
        + folded
        + b"\n---- END SSH2 PUBLIC KEY ----\n",
    }[form]
    tenant("ImportKeyPair", KeyName="mine", PublicKeyMaterial=material)
    (shown,) = tenant("DescribeKeyPairs", IncludePublicKey=True)["KeyPairs"]
    assert shown["PublicKey"].encode().split()[:2] == line.split()


@pytest.mark.parametrize(
    ("material", "code"),
    [
        (b"hello", "InvalidKey.Format"),
        (b"ssh-rsa AAAA", "InvalidKey.Format"),
        (b"ssh-rsa " + base64.b64encode(b"\0" * 300), "InvalidKey.Format"),
        (b"\xff\xfe\x00", "InvalidKey.Format"),
        (openssh(ec.generate_private_key(ec.SECP256R1())), "InvalidKey.Format"),
    ],
)
def test_what_is_no_key_is_refused(tenant: Tenant, material: bytes, code: str) -> None:
    assert tenant.refused("ImportKeyPair", KeyName="mine", PublicKeyMaterial=material) == code
    assert tenant("DescribeKeyPairs")["KeyPairs"] == []


def test_names_are_taken_once_in_an_account_and_a_region(tenant: Tenant, stranger: Tenant) -> None:
    tenant("CreateKeyPair", KeyName="k", KeyType="ed25519")
    assert tenant.refused("CreateKeyPair", KeyName="k", KeyType="ed25519") == "InvalidKeyPair.Duplicate"
    assert tenant.refused("ImportKeyPair", KeyName="k", PublicKeyMaterial=openssh(RSA)) == "InvalidKeyPair.Duplicate"
    stranger("CreateKeyPair", KeyName="k", KeyType="ed25519")
    tenant.in_region("eu-central-1")("CreateKeyPair", KeyName="k", KeyType="ed25519")


@pytest.mark.parametrize("name", ["", " k", "k\n", "schlüssel", "k" * 256])
def test_bad_names(tenant: Tenant, name: str) -> None:
    assert tenant.refused("CreateKeyPair", KeyName=name) in ("InvalidParameterValue", "MissingParameter")


def test_bad_types_and_formats(tenant: Tenant) -> None:
    assert tenant.refused("CreateKeyPair", KeyName="k", KeyType="dsa") == "InvalidParameterValue"
    assert tenant.refused("CreateKeyPair", KeyName="k", KeyFormat="jks") == "InvalidParameterValue"


def test_deleting(tenant: Tenant, stranger: Tenant) -> None:
    first = tenant("CreateKeyPair", KeyName="one", KeyType="ed25519")
    second = tenant("CreateKeyPair", KeyName="two", KeyType="ed25519")
    stranger("DeleteKeyPair", KeyName="one")
    stranger("DeleteKeyPair", KeyPairId=second["KeyPairId"])
    assert len(tenant("DescribeKeyPairs")["KeyPairs"]) == 2
    assert tenant("DeleteKeyPair", KeyName="one") == {"Return": True, "KeyPairId": first["KeyPairId"]}
    tenant("DeleteKeyPair", KeyPairId=second["KeyPairId"])
    assert tenant("DeleteKeyPair", KeyName="one") == {"Return": True}  # again: success
    assert tenant("DescribeKeyPairs")["KeyPairs"] == []
    assert tenant.refused("DeleteKeyPair") == "MissingParameter"


def test_listing_by_name_id_and_filter(tenant: Tenant) -> None:
    ids = {name: tenant("CreateKeyPair", KeyName=name, KeyType="ed25519")["KeyPairId"] for name in ("a1", "a2", "b1")}

    def names(**parameters: object) -> list[str]:
        return [pair["KeyName"] for pair in tenant("DescribeKeyPairs", **parameters)["KeyPairs"]]

    assert names(KeyNames=["b1", "a1"]) == ["a1", "b1"]
    assert names(KeyPairIds=[ids["a2"]]) == ["a2"]
    assert names(Filters=[{"Name": "key-name", "Values": ["a*"]}]) == ["a1", "a2"]
    assert names(Filters=[{"Name": "key-pair-id", "Values": [ids["b1"]]}]) == ["b1"]
    assert tenant.refused("DescribeKeyPairs", KeyNames=["a1", "zz"]) == "InvalidKeyPair.NotFound"
    assert tenant.refused("DescribeKeyPairs", KeyPairIds=["key-00000000000000000"]) == "InvalidKeyPair.NotFound"
