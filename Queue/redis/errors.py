"""Redis' errors in our words: by class or by the code that begins each of its errors.

https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
"""

from __future__ import annotations

import errno
import ssl

import redis.exceptions as theirs

from DurableText.patience import Patience
from Queue.errors import (
    QueueConfigurationError,
    QueueError,
    QueueReplacedError,
    QueueUnavailableError,
)

# What our own scripts say: what stands at the key is no longer what was opened.
REPLACED = "REPLACED"
# And what it is that stands there, before anything of ours does.
FOREIGN = "FOREIGN"

# It refuses for good: no such command (it is too old), no right.
_REFUSALS = (theirs.NoPermissionError, theirs.ClusterCrossSlotError)
# It refuses for now, also what greets it: a disk, a memory, a primary or a slot has to come back.
_PASSING = (
    "READONLY", "NOREPLICAS", "MISCONF", "OOM", "LOADING", "BUSY",
    "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN",
)  # fmt: skip
# Errors of the connection by their class that are answers all the same.
_CREDENTIALS = (theirs.AuthenticationError, theirs.AuthorizationError)


def code_of(error: Exception) -> str:
    """Return the code of an answer: `OOM`, `WRONGTYPE`; `ERR` if it has none of its own."""
    known = getattr(error, "status_code", None)
    return known or str(error).partition(" ")[0]


def may_have_arrived(error: Exception) -> bool:
    """Tell whether the command may have been done although it failed."""
    return isinstance(error, (theirs.ConnectionError, theirs.TimeoutError)) and not isinstance(
        error, (*_CREDENTIALS, theirs.BusyLoadingError)
    )


def translated(error: Exception, action: str, name: str, appended: int | None = 0) -> QueueError:
    """Return our error for one of redis-py's. What is not known passes: it is tried again."""
    what = f"cannot {action} the queue {name}: {_words(error)}"
    code = code_of(error)
    if code in (REPLACED, "NOGROUP"):
        return QueueReplacedError(
            f"the queue {name} is no longer what was opened: somebody has removed it, or the "
            "server came back empty; nothing of this counts as done, and a start goes on"
        )
    if code in (FOREIGN, "WRONGTYPE"):
        return QueueConfigurationError(
            f"{what}; the key is somebody else's: name another one with ?stream="
        )
    if isinstance(error, _REFUSALS):
        return _no_right(what)
    if isinstance(error, theirs.MovedError):
        return QueueConfigurationError(
            f"{what}; this node of a cluster does not hold the stream: name the one that does"
        )
    return QueueUnavailableError(what, appended)


def refused(error: Exception, name: str, before: Patience | None) -> QueueError:
    """Return our error for a connection that could not be made.

    Args:
        error: what was raised.
        name: where the queue is.
        before: for how long yet, if it took us before: a password may be just being changed.
    """
    if code_of(error) in (REPLACED, FOREIGN, "WRONGTYPE"):  # it was made: our greeting says so
        return translated(error, "open", name)
    what = f"cannot connect to the queue {name}: {_words(error)}"
    found = _final(error, what)
    if found is None:
        if before is not None:
            before.renew()
        return QueueUnavailableError(f"{what}; does the server run, and is it reached from here?")
    if before is None:
        return found
    return QueueError(str(found)) if before.is_over() else QueueUnavailableError(str(found))


def _final(error: Exception, what: str) -> QueueConfigurationError | None:
    """Return the error if waiting will not help; None otherwise."""
    cause = error.__context__
    if isinstance(error, _CREDENTIALS):
        return QueueConfigurationError(
            f"{what}; the server is there and refuses: look at the user in the URL and at "
            "REDIS_PASSWORD or REDIS_PASSWORD_FILE"
        )
    if isinstance(error, _REFUSALS):
        return _no_right(what)
    if isinstance(cause, ssl.SSLError):
        return QueueConfigurationError(
            f"{what}; look at TLS: is it redis:// or rediss://, and does ssl_ca_certs= name who "
            "signed the server's certificate?"
        )
    if isinstance(cause, OSError) and cause.errno == errno.EACCES:
        return QueueConfigurationError(f"{what}; this user may not open the socket")
    if isinstance(error, theirs.ResponseError) and code_of(error) not in _PASSING:
        return QueueConfigurationError(f"{what}; the server is there and refuses")
    return None


def _no_right(what: str) -> QueueConfigurationError:
    return QueueConfigurationError(
        f"{what}; the user needs the right to it (ACL): docs/scaling.md has the rules"
    )


def _words(error: Exception) -> str:
    """Return what it says on one line; the code stands first where redis-py has cut it off."""
    code = getattr(error, "status_code", None)
    return " ".join(f"{code} {error}".split() if code else str(error).split())
