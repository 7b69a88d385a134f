"""Whether a server that cannot be talked to speaks TLS where we do not, or the other way round.

Neither side tells: a server with TLS hangs up on whoever comes without, one without waits for the
end of a line that never comes.
"""

from __future__ import annotations

import socket
import ssl

from Queue.redis.url import RedisUrl

# It would have answered within milliseconds.
SECONDS = 2.0


def speaks_the_other_way(url: RedisUrl) -> bool:
    """Tell whether it answers with TLS although the URL has none, or without although it has."""
    if url.socket is not None:
        return False
    try:
        with socket.create_connection((url.host or "", url.port), SECONDS) as plain:
            if url.tls is not None:
                plain.sendall(b"PING\r\n")
                return plain.recv(1)[:1] in (b"+", b"-")
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.wrap_socket(plain).close()
            return True
    except OSError:
        return False
