"""Kill a process that uses the embedded broker, before each of its steps in turn.

    python -m tests.local.killed_deeds FOLDER DEED

A step is a statement of SQL, or a call of the system that makes, renames or removes something.
For each number a child is forked that does the deed and is killed (SIGKILL) before the step of
that number, and another that uses what it left; until a child does the deed unharmed. Prints how
many steps there are.
"""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.conformance.stories import bodies, receive
from MessageBroker.local_handler import LocalHandler

EVENTS = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.mkfifo"}


def main() -> None:
    """Kill at each step."""
    folder, deed = Path(sys.argv[1]), DEEDS[sys.argv[2]]
    for number in itertools.count(1):
        broken = folder / str(number)
        in_a_child(lambda: prepare(broken, deed))  # noqa: B023
        killed = not in_a_child(lambda: do_until(number, broken, deed), may_be_killed=True)  # noqa: B023
        in_a_child(lambda: use(broken, deed))  # noqa: B023
        if not killed:
            print(number - 1)
            return


def in_a_child(work: Callable[[], None], *, may_be_killed: bool = False) -> bool:
    """Do something in a child; False if it was killed. Ends this process if it fails there."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGKILL and may_be_killed:
        return False
    if code:
        sys.exit(code)
    return True


def do_until(number: int, folder: Path, deed: Callable[[LocalHandler], object]) -> None:
    """Do the deed, and be killed before its step of this number."""
    steps = itertools.count(1)

    def step(*_: object) -> None:
        if next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def traced_connect(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(step)
        return connection

    broker = LocalHandler(folder)
    sqlite3.connect = traced_connect  # type: ignore[assignment]
    broker._catalogue._database._db.set_trace_callback(step)
    sys.addaudithook(lambda event, _: step() if event in EVENTS else None)
    deed(broker)


def prepare(folder: Path, deed: Callable[[LocalHandler], object]) -> None:
    """Make what the deed needs."""
    with LocalHandler(folder) as broker:
        if deed is not create:
            broker.create_topic("topic")
            broker.publish("topic", b"before").result(30)


def use(folder: Path, deed: Callable[[LocalHandler], object]) -> None:
    """Do with the topic all that there is to do; nothing may stand in the way."""
    with LocalHandler(folder) as broker:
        made = broker.create_topic("topic")
        broker.publish("topic", b"after").result(30)
        backlog = broker.backlog("topic")
        with broker.subscribe("topic") as subscription:
            came = receive(subscription, backlog or 0)
            subscription.ack(came)
        allowed = {
            create: [["after"]],
            delete: [["after"]] if made else [["before", "after"]],
            publish: [["before", "after"], ["before", "during", "after"]],
        }
        assert bodies(came) in allowed[deed], bodies(came)
        assert broker.list_topics() == ["topic", dead_letter_topic("topic")]
        assert broker.delete_topic("topic") is True
        assert broker.delete_topic("topic") is False
        assert list(folder.glob("topic.*")) == [], "refuse is left behind"
        assert broker.create_topic("topic") is True


def create(broker: LocalHandler) -> object:
    return broker.create_topic("topic")


def delete(broker: LocalHandler) -> object:
    return broker.delete_topic("topic")


def publish(broker: LocalHandler) -> object:
    return broker.publish("topic", b"during").result(30)


DEEDS = {each.__name__: each for each in (create, delete, publish)}

if __name__ == "__main__":
    main()
