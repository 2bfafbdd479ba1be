"""X.509 as far as TLS between processes that know each other needs it: an authority, keys, requests, certificates.

Elliptic curves (P-256) only: a key is made in a moment, on any machine. PEM text goes in and out. Not here: who may have a
certificate, and where they are kept. Whoever verifies by name asks for the names given here, not for DNS's.
"""

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A machine whose clock is somewhat behind must still believe what was made just now.
BACKDATED_S = 7 * 86400
AUTHORITY_S = 30 * 365 * 86400
CERTIFICATE_S = 10 * 365 * 86400


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and its private key, as PEM."""

    certificate: str
    key: str


def new_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, format = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, format, serialization.NoEncryption()).decode()


def new_authority(name: str, *, serial: int, now: float) -> Pair:
    """A root that signs certificates and nothing else. `serial`: positive, unpredictable."""
    key_pem = new_key()
    key, subject = _key(key_pem), _name(name)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        _builder(subject, subject, key.public_key(), serial, now, AUTHORITY_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate=_pem(made), key=key_pem)


def server_certificate(authority: Pair, names: Sequence[str], *, serial: int, now: float) -> Pair:
    """For whoever answers under `names`: addresses where they are addresses, else host names."""
    key_pem = new_key()
    public = _key(key_pem).public_key()
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
    made = _issue(authority, _name(names[0]), public, ExtendedKeyUsageOID.SERVER_AUTH, alternatives, serial=serial, now=now)
    return Pair(certificate=made, key=key_pem)


def new_request(key: str) -> str:
    """What the holder of `key` sends to be certified; it proves that the key is there."""
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(_key(key), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def client_certificate(authority: Pair, request: str, name: str, *, serial: int, now: float) -> str:
    """For the key of `request`, under `name`, whatever the request says. Raises: ValueError: it is no sound request."""
    asked = _request(request)
    return _issue(authority, _name(name), asked, ExtendedKeyUsageOID.CLIENT_AUTH, None, serial=serial, now=now)


def key_of_request(request: str) -> str:
    """As `key_of_certificate`. Raises: ValueError: it is no sound request."""
    return _digest_of_key(_request(request))


def key_of_certificate(der: bytes) -> str:
    """SHA-256 of the public key, in hexadecimal: the same for every certificate of one key."""
    key = x509.load_der_x509_certificate(der).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("only elliptic keys are certified here")
    return _digest_of_key(key)


def fingerprint(certificate: str) -> bytes:
    """SHA-256 of the certificate itself."""
    der = x509.load_pem_x509_certificate(certificate.encode()).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).digest()


def _request(pem: str) -> ec.EllipticCurvePublicKey:
    asked = x509.load_pem_x509_csr(pem.encode())
    key = asked.public_key()
    if not asked.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size != 256:
        raise ValueError("the request is not signed by a P-256 key")
    return key


def _issue(
    authority: Pair,
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    usage: x509.ObjectIdentifier,
    alternatives: x509.SubjectAlternativeName | None,
    *,
    serial: int,
    now: float,
) -> str:
    signer = x509.load_pem_x509_certificate(authority.certificate.encode())
    builder = (
        _builder(subject, signer.subject, public, serial, now, CERTIFICATE_S)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return _pem(builder.sign(_key(authority.key), hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, serial: int, now: float, life_s: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(_time(now - BACKDATED_S))
        .not_valid_after(_time(now + life_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is of another kind than is used here")
    return key


def _digest_of_key(key: ec.EllipticCurvePublicKey) -> str:
    encoding, format = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(encoding, format)).hexdigest()


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
