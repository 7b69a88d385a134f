"""What is wrong with a listener, as an error that says what to change."""

from __future__ import annotations

from DurableText.installation.places import with_make
from MessageBroker.addresses import is_local
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
)
from MessageBroker.kafka.faults import Fault, Finding

SERVERS = "KAFKA_BOOTSTRAP_SERVERS (kafka_config.ini [default] bootstrap.servers)"

# What cures each fault. Those that may pass are waited for, the rest somebody must change.
_WHAT_TO_DO = {
    Fault.UNKNOWN_HOST: f"check the name in {SERVERS}, and the DNS of this machine",
    Fault.REFUSED: "check the address and that the broker is up",
    Fault.SILENT: "check the address, the network between, and that the broker is up",
    Fault.CLOSES: (
        "check that the broker behind it is up, and that security.protocol is what its listener "
        "speaks"
    ),
    Fault.NO_KAFKA: "check host and port",
    Fault.NO_TLS: "check host and port, and what stands in between",
    Fault.OTHER_TLS: "allow TLS 1.2 or 1.3 on its listener, or change ssl.cipher.suites",
    Fault.OTHER_NAME: (
        "use a name that the certificate holds, or have a certificate made for this one"
    ),
    Fault.EXPIRED: "renew it on the broker, or set this machine's clock right",
    Fault.NOT_YET_VALID: "set this machine's clock right, or have another certificate made",
    Fault.UNKNOWN_AUTHORITY: (
        "set ssl.ca.location (KAFKA_SSL_CA_LOCATION) to the file of the authority that signed it"
    ),
    Fault.BAD_CERTIFICATE: "have another certificate made for the broker",
    Fault.WANTS_TLS: (
        "set security.protocol (KAFKA_SECURITY_PROTOCOL) to SSL, or to SASL_SSL with a login"
    ),
    Fault.WITHOUT_TLS: (
        "set security.protocol (KAFKA_SECURITY_PROTOCOL) to PLAINTEXT, or to SASL_PLAINTEXT with a "
        "login, or use the port of its listener with TLS"
    ),
    Fault.WANTS_CERTIFICATE: "set ssl.certificate.location and ssl.key.location",
    Fault.REFUSES_CERTIFICATE: (
        "have the one that ssl.certificate.location names signed by an authority that the broker "
        "trusts, and look whether it has expired"
    ),
    Fault.WANTS_LOGIN: (
        "set security.protocol (KAFKA_SECURITY_PROTOCOL) to {login}, and sasl.mechanisms, "
        "sasl.username and sasl.password"
    ),
    Fault.WITHOUT_LOGIN: (
        "set security.protocol (KAFKA_SECURITY_PROTOCOL) to {no_login}, or use the port of its "
        "listener with a login"
    ),
    Fault.OTHER_MECHANISM: ("set sasl.mechanisms (KAFKA_SASL_MECHANISM) to one that it takes"),
}


def error_of_finding(finding: Finding, servers: str, *, tls: bool, told: bool) -> BrokerError:
    """Make an error of what a look has shown.

    Args:
        finding: what it was.
        servers: the addresses of the cluster that were set.
        tls: whether the client's protocol is under TLS.
        told: whether the listener's address is one that the cluster tells its clients.
    """
    fault = finding.fault
    shown = f" (it offers {', '.join(finding.shown)})" if finding.shown else ""
    advice = _WHAT_TO_DO[fault].format(
        login="SASL_SSL" if tls else "SASL_PLAINTEXT", no_login="SSL" if tls else "PLAINTEXT"
    )
    if told:
        tried = f"Kafka at {servers} tells its clients the address {finding.address}"
        advice = f"{advice}, or change advertised.listeners of that broker"
    else:
        tried = f"Kafka at {finding.address}"
        if fault is Fault.REFUSED:
            advice = advice_where_away(servers)
    kind: type[BrokerError] = ConfigurationError
    if fault.may_pass:
        kind = BrokerUnavailableError
    elif fault is Fault.REFUSES_CERTIFICATE:
        kind = AuthenticationError
    return kind(f"{tried}: {fault.value}{shown}: {advice}")


def advice_where_away(servers: str) -> str:
    """Say what to do where no broker answers."""
    check = f"check that it is up, the network, and {SERVERS}"
    if not is_local(servers):
        return check
    start = with_make("kafka", "docker run -p 9092:9092 apache/kafka")
    return f"start one with {start}, or {check}"
