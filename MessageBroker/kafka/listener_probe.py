"""Why a listener of Kafka cannot be used: a look at it that sends no secret.

The client library says "handshake failed" of a wrong authority, a wrong host name and an
expired certificate alike, "disconnected" of a listener that speaks another protocol, and nothing at
all of one that wants a login. TLS and Kafka's own first two requests tell them apart, by codes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path

from MessageBroker.addresses import without_scheme
from MessageBroker.kafka.faults import Fault, Finding

# All of a look, at however many addresses; the patience of a start is 3 s (s).
LOOK_SECONDS = 1.5
# What saying so takes after that (s).
MARGIN_SECONDS = 0.3
# So many addresses of `bootstrap.servers` are looked at: one that works says that all is well.
MAX_ADDRESSES = 3
# An answer to the requests below has hundreds of bytes; more is no Kafka's.
MAX_ANSWER_BYTES = 64 * 1024
# Names of a certificate that a message shows.
MAX_NAMES = 4
DEFAULT_PORT = 9092

# https://kafka.apache.org/protocol: requests of these numbers, and the codes of their answers.
_API_VERSIONS, _SASL_HANDSHAKE = 18, 17
_UNSUPPORTED_MECHANISM, _NOT_A_SASL_LISTENER = 33, 34
# OpenSSL's X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})  # host name, address
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 27})


class _Answer(Enum):
    KAFKA = 1
    ANOTHER = 2
    NONE = 3


class _FaultFoundError(Exception):
    def __init__(self, fault: Fault, shown: tuple[str, ...] = ()) -> None:
        super().__init__(fault.value)
        self.fault = fault
        self.shown = shown


def look_at(servers: str, properties: Mapping[str, str]) -> Finding | None:
    """Look at addresses as `bootstrap.servers` lists them.

    Args:
        servers: the addresses.
        properties: librdkafka's, for the protocol, the certificates and the mechanism.

    Returns:
        None if one of them can be used as far as this can tell; else what is wrong with the first,
        that which waiting cannot cure before the rest.
    """
    places = [_parts(address) for address in servers.split(",")[:MAX_ADDRESSES]]
    findings = look_at_each(places, properties)
    if None in findings:
        return None
    known = [each for each in findings if each is not None]
    return min(known, key=lambda finding: finding.fault.may_pass, default=None)


def look_at_each(
    places: Sequence[tuple[str, int]], properties: Mapping[str, str]
) -> list[Finding | None]:
    """Look at several listeners side by side; None for each that can be used, as far as one sees.

    Each in a thread of its own: the system may look for a name for much longer than anybody here
    may wait.

    Args:
        places: hosts and ports.
        properties: see `look_at`.
    """
    looks = [_Look(host, port, properties) for host, port in places]
    return [look.finding() for look in looks]


class _Look:
    """A look at one listener, which begins at once."""

    def __init__(self, host: str, port: int, properties: Mapping[str, str]) -> None:
        self._host = host
        self._port = port
        self._properties = properties
        protocol = properties.get("security.protocol", "plaintext").lower()
        self._tls = protocol.endswith("ssl")
        self._login = protocol.startswith("sasl")
        self._deadline = time.monotonic() + LOOK_SECONDS
        self._ended = threading.Event()
        # What it means that nothing more is known by now.
        self._finding: Finding | None = self._found(Fault.UNKNOWN_HOST)
        threading.Thread(target=self._look, name="looking at a listener", daemon=True).start()

    def finding(self) -> Finding | None:
        """Return what it has shown when its time is over."""
        self._ended.wait(max(0.0, self._deadline + MARGIN_SECONDS - time.monotonic()))
        return self._finding

    def _look(self) -> None:
        try:
            self._judge()
            self._finding = None
        except _FaultFoundError as found:
            self._finding = self._found(found.fault, found.shown)
        except (OSError, ValueError, struct.error, _NotKafkaError):
            # The settings cannot be used for a look, or it broke off: nothing is known.
            self._finding = None
        finally:
            self._ended.set()

    def _found(self, fault: Fault, shown: tuple[str, ...] = ()) -> Finding:
        return Finding(f"{self._host}:{self._port}", fault, shown)

    def _judge(self) -> None:
        """Raise the fault that there is."""
        with self._connected() as connection:
            if self._tls:
                self._judge_tls(connection)
                return
            answer = self._api_versions(connection)
            if answer is _Answer.KAFKA:
                self._judge_login(connection)
            elif self._speaks_tls():
                raise _FaultFoundError(Fault.WANTS_TLS)
            else:
                raise _no_kafka(answer)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        try:
            addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            raise _FaultFoundError(Fault.UNKNOWN_HOST) from None
        self._finding = self._found(Fault.SILENT)
        fault = Fault.UNKNOWN_HOST
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as connection:
                try:
                    connection.settimeout(self._left())
                    connection.connect(address)
                except ConnectionRefusedError:
                    fault = Fault.REFUSED
                    continue
                except OSError:  # no route, or no answer in time
                    fault = Fault.SILENT
                    continue
                yield connection
                return
        raise _FaultFoundError(fault)

    def _left(self) -> float:
        return max(0.05, self._deadline - time.monotonic())

    def _judge_tls(self, connection: socket.socket) -> None:
        connection.settimeout(self._left())
        context = self._context()
        try:
            wrapped = context.wrap_socket(connection, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            raise self._certificate_fault(error.verify_code) from None
        except TimeoutError:
            raise _FaultFoundError(Fault.SILENT) from None
        except OSError as error:  # SSLError is one
            if _is_about_the_client(error):  # TLS 1.2 refuses it in the handshake
                raise self._client_certificate_fault() from None
            if self._speaks_kafka_without_tls():
                raise _FaultFoundError(Fault.WITHOUT_TLS) from None
            raise _handshake_fault(error) from None
        with wrapped:
            try:
                answer = self._api_versions(wrapped)
            except ssl.SSLError as error:  # TLS 1.3 refuses a client after its own handshake
                if "ALERT" not in (error.reason or ""):
                    raise
                raise self._client_certificate_fault() from None
            if answer is not _Answer.KAFKA:
                raise _no_kafka(answer)
            self._judge_login(wrapped)

    def _judge_login(self, connection: socket.socket) -> None:
        mechanism = self._properties.get("sasl.mechanisms", "GSSAPI") if self._login else "PLAIN"
        answer = self._ask(connection, _SASL_HANDSHAKE, 1, _text(mechanism))
        if answer is None:
            return
        (code,) = struct.unpack_from(">h", answer)
        if not self._login:
            if code != _NOT_A_SASL_LISTENER:
                raise _FaultFoundError(Fault.WANTS_LOGIN, _texts(answer[2:]))
        elif code == _NOT_A_SASL_LISTENER:
            raise _FaultFoundError(Fault.WITHOUT_LOGIN)
        elif code == _UNSUPPORTED_MECHANISM:
            raise _FaultFoundError(Fault.OTHER_MECHANISM, _texts(answer[2:]))

    def _context(self) -> ssl.SSLContext:
        """Trust whom the client trusts, and show what it shows."""
        get = self._properties.get
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted = get("ssl.ca.location", "")
        if get("ssl.ca.pem"):
            context.load_verify_locations(cadata=get("ssl.ca.pem"))
        elif trusted and trusted != "probe":
            folder = Path(trusted).is_dir()
            context.load_verify_locations(**{"capath" if folder else "cafile": trusted})
        else:
            context.load_default_certs()
        if get("ssl.certificate.location"):
            context.load_cert_chain(
                self._properties["ssl.certificate.location"],
                get("ssl.key.location"),
                lambda: get("ssl.key.password", ""),
            )
        if get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
            context.check_hostname = False
        if get("enable.ssl.certificate.verification", "true").lower() == "false":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _client_certificate_fault(self) -> _FaultFoundError:
        has_one = any(name.startswith("ssl.certificate") for name in self._properties)
        has_one |= "ssl.keystore.location" in self._properties
        return _FaultFoundError(Fault.REFUSES_CERTIFICATE if has_one else Fault.WANTS_CERTIFICATE)

    def _certificate_fault(self, code: int) -> _FaultFoundError:
        if code in _OTHER_NAME:
            return _FaultFoundError(Fault.OTHER_NAME, self._names_of_the_certificate())
        faults = {_EXPIRED: Fault.EXPIRED, _NOT_YET_VALID: Fault.NOT_YET_VALID}
        faults |= dict.fromkeys(_UNKNOWN_AUTHORITY, Fault.UNKNOWN_AUTHORITY)
        return _FaultFoundError(faults.get(code, Fault.BAD_CERTIFICATE))

    def _names_of_the_certificate(self) -> tuple[str, ...]:
        context = self._context()
        context.check_hostname = False
        with contextlib.suppress(OSError, _FaultFoundError), self._connected() as connection:
            connection.settimeout(self._left())
            with context.wrap_socket(connection, server_hostname=self._host) as wrapped:
                names = (wrapped.getpeercert() or {}).get("subjectAltName", ())
                return tuple(_printable(str(pair[1])) for pair in names[:MAX_NAMES])
        return ()

    def _speaks_tls(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with self._connected() as connection:
                connection.settimeout(self._left())
                context.wrap_socket(connection).close()
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False
        return True

    def _speaks_kafka_without_tls(self) -> bool:
        try:
            with self._connected() as connection:
                return self._api_versions(connection) is _Answer.KAFKA
        except OSError:
            return False

    # ------------------------------------------------------------------ Kafka's protocol

    def _api_versions(self, connection: socket.socket) -> _Answer:
        try:
            answer = self._ask(connection, _API_VERSIONS, 0, b"")
        except _NotKafkaError:
            return _Answer.ANOTHER
        return _Answer.NONE if answer is None else _Answer.KAFKA

    def _ask(self, connection: socket.socket, api: int, version: int, body: bytes) -> bytes | None:
        """Send one request; return its answer, None if there is none."""
        number = 1
        request = struct.pack(">hhi", api, version, number) + _text("probe") + body
        try:
            connection.settimeout(self._left())
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = self._read(connection, 8)
            if head is None:
                return None
            size, answered = struct.unpack(">ii", head)
            if answered != number or not 4 <= size <= MAX_ANSWER_BYTES:
                raise _NotKafkaError
            return self._read(connection, size - 4)
        except ssl.SSLError:
            raise
        except TimeoutError:
            raise _FaultFoundError(Fault.SILENT) from None
        except OSError:
            return None

    def _read(self, connection: socket.socket, size: int) -> bytes | None:
        """Read so much; None if it ends before. What drips ends with the time of the look."""
        data = bytearray()
        while len(data) < size:
            if time.monotonic() >= self._deadline:
                raise TimeoutError
            connection.settimeout(self._left())
            part = connection.recv(size - len(data))
            if not part:
                return None
            data += part
        return bytes(data)


def _is_about_the_client(error: OSError) -> bool:
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _handshake_fault(error: OSError) -> _FaultFoundError:
    """Tell what a handshake that failed was about, where no certificate was."""
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if any(each in reason for each in ("PROTOCOL_VERSION", "HANDSHAKE_FAILURE", "UNSUPPORTED")):
        return _FaultFoundError(Fault.OTHER_TLS)
    closed = isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError)
    return _FaultFoundError(Fault.CLOSES if closed else Fault.NO_TLS)


def _no_kafka(answer: _Answer) -> _FaultFoundError:
    return _FaultFoundError(Fault.NO_KAFKA if answer is _Answer.ANOTHER else Fault.CLOSES)


class _NotKafkaError(Exception):
    pass


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _texts(data: bytes) -> tuple[str, ...]:
    """Read an array of texts."""
    try:
        (count,) = struct.unpack_from(">i", data)
        place, texts = 4, []
        for _ in range(min(count, MAX_NAMES)):
            (size,) = struct.unpack_from(">h", data, place)
            texts.append(_printable(data[place + 2 : place + 2 + size].decode("ascii", "replace")))
            place += 2 + size
    except struct.error:
        return ()
    return tuple(texts)


def _printable(text: str) -> str:
    return "".join(each for each in text[:100] if each.isascii() and each.isprintable())


def _parts(address: str) -> tuple[str, int]:
    """Split `[PROTOCOL://]host[:port]`."""
    place = without_scheme(address)
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place.strip("[]"), DEFAULT_PORT
    return host.strip("[]"), int(port) if port.isdecimal() else DEFAULT_PORT
