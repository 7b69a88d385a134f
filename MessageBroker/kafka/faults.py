"""What may be wrong with a listener of Kafka, as a look at it shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fault(Enum):
    """What is wrong with a listener, or with what was set for it."""

    UNKNOWN_HOST = "its name is not known here"
    REFUSED = "nobody listens there"
    SILENT = "nothing answers there"
    CLOSES = "it closes the connection without an answer"
    NO_KAFKA = "what answers there is no Kafka"
    NO_TLS = "what answers there does not speak TLS, nor is it a Kafka without"
    OTHER_TLS = "it takes none of the TLS versions or ciphers of this client"
    OTHER_NAME = "its certificate is for another host name"
    EXPIRED = "its certificate has expired"
    NOT_YET_VALID = "its certificate is not valid yet"
    UNKNOWN_AUTHORITY = "its certificate is of an authority that is not trusted here"
    BAD_CERTIFICATE = "its certificate cannot be verified"
    WANTS_TLS = "it speaks TLS"
    WITHOUT_TLS = "it does not speak TLS"
    WANTS_CERTIFICATE = "it wants a certificate of the client"
    REFUSES_CERTIFICATE = "it does not take the certificate of the client"
    WANTS_LOGIN = "it wants a login (SASL)"
    WITHOUT_LOGIN = "it takes no login (SASL)"
    OTHER_MECHANISM = "it does not take the mechanism of the login"

    @property
    def may_pass(self) -> bool:
        """Whether waiting may cure it."""
        return self in _MAY_PASS


# A port that is forwarded takes connections before there is anything behind it.
_MAY_PASS = frozenset({Fault.UNKNOWN_HOST, Fault.REFUSED, Fault.SILENT, Fault.CLOSES, Fault.NO_TLS})


@dataclass(frozen=True)
class Finding:
    """What a look has shown.

    Attributes:
        address: where: `host:port`.
        fault: what is wrong.
        shown: what the listener offers instead: names of its certificate, mechanisms.
    """

    address: str
    fault: Fault
    shown: tuple[str, ...] = ()
