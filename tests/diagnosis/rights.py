"""The rights that `docs/kafka.md` names, read from the commands there that grant them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "kafka.md"
# The cluster's metadata reach its authorizer within milliseconds; a busy machine's later (s).
EFFECT_SECONDS = 20.0


def documented_script() -> str:
    """Return the shell script of the docs that grants all rights."""
    for block in DOCS.read_text().split("```sh\n")[1:]:
        script = block.partition("\n```")[0]
        if script.startswith("allow()"):
            return script
    raise AssertionError(f"{DOCS} has no script that begins with allow()")


@dataclass(frozen=True, order=True)
class Right:
    """One right of one principal.

    Attributes:
        principal: its name, without `User:`.
        operation: `READ`, say.
        kind: `topic` or `group`.
        name: of the topic or group.
    """

    principal: str
    operation: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.principal}: {self.operation} on {self.kind} {self.name}"

    def grant(self, admin: AdminClient) -> None:
        """Give it; return when it holds."""
        grant(admin, [self])

    def revoke(self, admin: AdminClient) -> None:
        """Take it away; return when it is gone."""
        for future in admin.delete_acls([self.binding(AclBindingFilter)]).values():
            future.result()
        self.wait_until(admin, there=False)

    def wait_until(self, admin: AdminClient, *, there: bool) -> None:
        deadline = time.monotonic() + EFFECT_SECONDS
        wanted = self.binding(AclBindingFilter)
        while bool(admin.describe_acls(wanted).result()) is not there:
            assert time.monotonic() < deadline, self

    def binding(self, kind: type) -> AclBinding:
        return kind(
            ResourceType[self.kind.upper()],
            self.name,
            ResourcePatternType.LITERAL,
            f"User:{self.principal}",
            "*",
            AclOperation[self.operation],
            AclPermissionType.ALLOW,
        )


def grant(admin: AdminClient, rights: Sequence[Right]) -> None:
    """Give rights; return when they hold."""
    for future in admin.create_acls([right.binding(AclBinding) for right in rights]).values():
        future.result()
    for right in rights:
        right.wait_until(admin, there=True)


def granted(admin: AdminClient) -> set[Right]:
    """Return all rights that the cluster knows."""
    everything = AclBindingFilter(
        ResourceType.ANY,
        None,
        ResourcePatternType.ANY,
        None,
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    return {
        Right(
            each.principal.removeprefix("User:"),
            each.operation.name,
            each.restype.name.lower(),
            each.name,
        )
        for each in admin.describe_acls(everything).result()
    }


def documented_rights(script: str | None = None) -> list[Right]:
    """Read the rights out of the script, or part of it."""
    rights = []
    for line in (script or documented_script()).splitlines():
        words = shlex.split(line)
        if not words or words[0] != "allow":
            continue
        given: dict[str, list[str]] = {}
        for option, value in zip(words[1::2], words[2::2], strict=True):
            given.setdefault(option.removeprefix("--"), []).append(value)
        rights += [
            Right(principal.removeprefix("User:"), operation, kind, name)
            for principal in given["allow-principal"]
            for operation in given["operation"]
            for kind in ("topic", "group")
            for name in given.get(kind, [])
        ]
    return rights


PRINCIPALS = sorted({right.principal for right in documented_rights()})
