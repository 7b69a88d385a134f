"""A real Kafka with TLS, passwords and access control, and listeners that are wrong in one point.

    with SecuredKafka(principals) as kafka:
        connect(kafka.login("app_1"))

Each principal logs in by SCRAM, by PLAIN, or by a certificate of its own, and has no right but
those that it is given. Whoever comes to the plain port is a super user, so is `admin` everywhere.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from tests.brokers.certificates import ADDRESS, Authority, IssuedCertificate
from tests.brokers.kafka_jars import java_command
from tests.brokers.kafka_server import HOST, KafkaCluster, Listener, _Node
from tests.servers import free_port

ADMIN = "admin"
_LOGIN_MODULES = "org.apache.kafka.common.security"
# A dozen calls of kafka-acls.sh, a JVM each, on a busy machine (s).
SHELL_TIMEOUT_SECONDS = 220.0


class SecuredKafka(KafkaCluster):
    """One node. Its listeners, by name, are in `servers`:

    PASSWORDS (SASL_SSL), CERTIFICATES (TLS of both sides), PLAIN (a super user without login), and
    with one thing wrong: EXPIRED and MISNAMED (TLS with such a certificate), UNLOCKED (a password
    without TLS), ASTRAY (tells clients an address where nobody listens).
    """

    def __init__(self, principals: Collection[str]) -> None:
        """Make certificates and passwords.

        Args:
            principals: the names of those who may log in.
        """
        self.passwords = {name: secrets.token_urlsafe(12) for name in (*principals, ADMIN)}
        self._secrets = tempfile.TemporaryDirectory(prefix="kafka-secrets-")
        self.folder = Path(self._secrets.name)
        self.authority = Authority(self.folder / "authority")
        self.stranger = Authority(self.folder / "stranger", "strangers")
        self._ports = {
            name: free_port()
            for name in ("PASSWORDS", "CERTIFICATES", "EXPIRED", "MISNAMED", "UNLOCKED", "ASTRAY")
        }
        self.port_of_nobody = free_port()
        super().__init__()

    def stop(self) -> None:
        super().stop()
        self._secrets.cleanup()

    # ------------------------------------------------------------------ for clients

    def server(self, listener: str) -> str:
        """Return the address of a listener."""
        return self.bootstrap_servers if listener == "PLAIN" else f"{HOST}:{self._ports[listener]}"

    def login(self, name: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """Return the properties with which `name` logs in by its password, under TLS."""
        return {
            "bootstrap.servers": self.server("PASSWORDS"),
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": mechanism,
            "sasl.username": name,
            "sasl.password": self.passwords[name],
            "ssl.ca.location": str(self.authority.file),
        }

    def certified(self, name: str) -> dict[str, str]:
        """Return the properties with which `name` shows its certificate."""
        issued = self.certificate(name)
        return {
            "bootstrap.servers": self.server("CERTIFICATES"),
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.authority.file),
            "ssl.certificate.location": str(issued.certificate),
            "ssl.key.location": str(issued.key),
        }

    def certificate(self, name: str) -> IssuedCertificate:
        """Issue a client's certificate."""
        return self.authority.issue(name)

    # ------------------------------------------------------------------ for administrators

    @cached_property
    def command_config(self) -> Path:
        """The file that `kafka-acls.sh --command-config` takes, as `admin`."""
        module = f"{_LOGIN_MODULES}.scram.ScramLoginModule"
        path = self.folder / "admin.properties"
        path.write_text(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
            f'sasl.jaas.config={module} required username="{ADMIN}" '
            f'password="{self.passwords[ADMIN]}";\n'
            f"ssl.truststore.type=PEM\nssl.truststore.location={self.authority.file}\n"
        )
        return path

    def shell(self, script: str) -> str:
        """Run what the docs tell an administrator to run; `kafka-acls.sh` is Kafka's own."""
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        program = programs / "kafka-acls.sh"
        java = java_command("org.apache.kafka.tools.AclCommand", heap="128m")
        program.write_text(f'#!/bin/sh\nexec {" ".join(map(repr, java))} "$@"\n')
        program.chmod(0o755)
        outcome = subprocess.run(
            ["sh", "-e", "-c", script],
            env={
                **os.environ,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "BOOTSTRAP": self.server("PASSWORDS"),
                "ADMIN": str(self.command_config),
            },
            capture_output=True,
            text=True,
            timeout=SHELL_TIMEOUT_SECONDS,
            check=False,
        )
        assert outcome.returncode == 0, outcome.stderr + outcome.stdout
        return outcome.stdout

    # ------------------------------------------------------------------ for the node

    def _more_listeners(self, node: _Node) -> dict[str, Listener]:
        protocols = {
            "PASSWORDS": "SASL_SSL",
            "CERTIFICATES": "SSL",
            "EXPIRED": "SSL",
            "MISNAMED": "SSL",
            "UNLOCKED": "SASL_PLAINTEXT",
            "ASTRAY": "PLAINTEXT",
        }
        return {
            name: Listener(
                protocol, self._ports[name], self.port_of_nobody if name == "ASTRAY" else None
            )
            for name, protocol in protocols.items()
        }

    def _format_options(self) -> list[str]:
        options = []
        for name, password in self.passwords.items():
            options += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        return options

    def _security_properties(self) -> dict[str, str]:
        plain = " ".join(f'user_{name}="{password}"' for name, password in self.passwords.items())
        properties = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{ADMIN}",
            # `User:app_1` for CN=app_1, as for a password.
            "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            "listener.name.certificates.ssl.client.auth": "required",
        }
        for listener in ("passwords", "unlocked"):
            prefix = f"listener.name.{listener}"
            properties |= {
                f"{prefix}.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
                f"{prefix}.scram-sha-512.sasl.jaas.config": (
                    f"{_LOGIN_MODULES}.scram.ScramLoginModule required;"
                ),
                f"{prefix}.plain.sasl.jaas.config": (
                    f"{_LOGIN_MODULES}.plain.PlainLoginModule required {plain};"
                ),
            }
        good = self.authority.issue("broker", host=ADDRESS)
        for listener, issued in {
            "passwords": good,
            "certificates": good,
            "expired": self.authority.issue("expired", host=ADDRESS, expired=True),
            "misnamed": self.authority.issue("misnamed", host="elsewhere.example"),
        }.items():
            prefix = f"listener.name.{listener}.ssl"
            properties |= {
                f"{prefix}.keystore.type": "PEM",
                f"{prefix}.keystore.location": str(issued.keystore),
                f"{prefix}.truststore.type": "PEM",
                f"{prefix}.truststore.location": str(self.authority.file),
            }
        return properties
