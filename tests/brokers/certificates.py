"""Certificates made on the fly: an authority, and what it signs, right or wrong in one point."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
ADDRESS = "127.0.0.1"


class Authority:
    """A certificate authority in a folder; its own certificate is `ca.pem` there."""

    def __init__(self, folder: Path, name: str = "tests") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(f"authority of the {name}")
        certificate = (
            _builder(self._subject, self._subject, self._key, expired=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        host: str | None = None,
        expired: bool = False,
        password: str | None = None,
    ) -> IssuedCertificate:
        """Make a key and its certificate.

        Args:
            name: the subject's common name.
            host: what a server's certificate stands for; None for a client's, and 127.0.0.1 for
                the address of the tests' servers.
            expired: whether its time was over yesterday.
            password: of the key's file; None for none.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(_name(name), self._subject, key, expired=expired)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if host is not None:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            if host == ADDRESS:
                names = [x509.IPAddress(ipaddress.ip_address(host)), x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return IssuedCertificate(self._folder / name, key, certificate, password)


class IssuedCertificate:
    """A key and its certificate, as files: apart for clients, together for a server.

    Attributes:
        certificate: the file of the certificate.
        key: the file of the key.
        keystore: both in one, as a server of Kafka takes them.
    """

    def __init__(
        self,
        stem: Path,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        password: str | None,
    ) -> None:
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password.encode())
        key_text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        text = certificate.public_bytes(serialization.Encoding.PEM)
        self.key, self.certificate, self.keystore = (
            stem.with_name(f"{stem.name}.{kind}.pem") for kind in ("key", "certificate", "keystore")
        )
        self.key.write_bytes(key_text)
        self.certificate.write_bytes(text)
        self.keystore.write_bytes(key_text + text)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begin, end = (now - 3 * DAY, now - DAY) if expired else (now - DAY, now + 2 * DAY)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
