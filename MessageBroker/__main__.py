"""`python -m MessageBroker`: look at a broker and look after it, whichever it is.

python -m MessageBroker ping
python -m MessageBroker topics create                    the pipeline's topics and subscriptions
python -m MessageBroker backlog
python -m MessageBroker dead-letters list
python -m MessageBroker dead-letters replay --reason "undecodable image"
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from DurableText import command_line
from DurableText.command_line import EXIT_DONE, EXIT_FAILED
from DurableText.installation.command_line import command_parser
from DurableText.program.option_types import folder_name, nonempty, not_negative, path_name
from DurableText.program.wording import brief, counted, in_lines
from DurableText.storage import write_file
from MessageBroker import dead_letters, original_message
from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from MessageBroker.configuration import read_broker_config
from MessageBroker.core.broker import BrokerCore
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
)
from MessageBroker.message import Message
from MessageBroker.message_broker_factory import MessageBrokerFactory, add_broker_option

DEFAULT_PING_SECONDS = 10.0

# A command returns what --json prints, the lines for a person, and whether all went well.
Answer = tuple[dict[str, Any], list[str], bool]
Command = Callable[[BrokerCore, argparse.Namespace], Answer]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return command_line.run(
        parser(), arguments, BrokerError, wrong_use=ConfigurationError, name="MessageBroker"
    )


def run_command(options: argparse.Namespace) -> int:
    """Run the command that the options name, and print its answer."""
    with open_broker(options) as broker:
        document, lines, fine = options.command(broker, options)
    print(json.dumps(document) if options.json else in_lines(*lines))
    return EXIT_DONE if fine else EXIT_FAILED


def open_broker(options: argparse.Namespace) -> BrokerCore:
    """Create the handler that the options name; it must answer."""
    broker = MessageBrokerFactory.get_handler(
        options.broker, config_dir=options.config_dir, delivery=dead_letters.READING
    )
    try:
        if options.command is not ping:
            broker.ping(DEFAULT_PING_SECONDS)
    except BaseException:
        broker.close(0)
        raise
    return broker


# ---------------------------------------------------------------------- the commands


def ping(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Ask the broker for an answer."""
    began = time.monotonic()
    broker.ping(options.timeout)
    milliseconds = round(1000 * (time.monotonic() - began), 1)
    document = {"broker": broker.name, "answers": True, "milliseconds": milliseconds}
    return document, [f"{broker.name} answers ({milliseconds:g} ms)"], True


def create_topics(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Create topics; without names those of the pipeline."""
    created: dict[str, bool] = {}
    failures = Failures()
    for topic in topics_of(options):
        with failures.noted(topic):
            created[topic] = broker.create_topic(topic)
    lines = [f"{topic}: {'created' if new else 'exists'}" for topic, new in created.items()]
    document = {"topics": [{"name": each, "created": created[each]} for each in created]}
    return failures.beside(document, lines)


def list_topics(broker: BrokerCore, options: argparse.Namespace) -> Answer:  # noqa: ARG001
    """List all topics."""
    topics = broker.list_topics()
    return {"topics": topics}, topics or ["no topics"], True


def delete_topics(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Delete topics with their subscriptions."""
    deleted: dict[str, bool] = {}
    failures = Failures()
    for topic in options.topics:
        with failures.noted(topic):
            deleted[topic] = broker.delete_topic(topic)
    lines = [f"{each}: {'deleted' if was else 'no such topic'}" for each, was in deleted.items()]
    document = {"topics": [{"name": each, "deleted": was} for each, was in deleted.items()]}
    document, lines, fine = failures.beside(document, lines)
    return document, lines, fine and all(deleted.values())


def backlog(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Count what is not acknowledged; without names for the pipeline's topics."""
    topics = topics_of(options)
    if not options.topics:
        topics += [dead_letter_topic(topic) for topic in topics]
    rows: list[dict[str, Any]] = []
    failures = Failures()
    for topic in topics:
        subscription = options.subscription or default_subscription(topic)
        with failures.noted(topic):
            count = broker.backlog(topic, subscription)
            rows.append({"topic": topic, "subscription": subscription, "messages": count})
    lines = [
        f"{row['topic']} ({row['subscription']}): "
        + (f"{row['messages']:,}" if row["messages"] is not None else "this broker cannot tell")
        for row in rows
    ]
    return failures.beside({"backlog": rows}, lines)


def list_letters(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Show dead letters and leave them all."""
    selection = selection_of(options)
    letters: list[dict[str, Any]] = []
    topics, failures = topics_of(options), Failures()
    for topic in topics:
        with failures.noted(topic):
            found = dead_letters.read_letters(broker, topic, options.wait).letters
            letters += map(original_message.describe, filter(selection.takes, found))
    lines = [
        f"{brief(each['time'])}  {brief(each['source_topic'])}  "
        f"{brief(each['event_id'] or each['message_id'] or each['id'])}  "
        + (f"{brief(each['subject'])}  " if each["subject"] else "")
        + f"{counted(each['bytes'], 'byte')}  attempt {brief(str(each['attempts'] or '?'))}  "
        f"{brief(each['reason'])}: {brief(each['error'])}"
        for each in letters
    ]
    if len(failures) < len(topics):  # else there is nothing to count
        lines.append(counted(len(letters), "dead letter"))
    return failures.beside({"letters": letters}, lines)


def replay_letters(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Publish dead letters to the topics from which they came."""
    return _settle(broker, options, dead_letters.replay, "replayed")


def purge_letters(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Throw dead letters away."""
    if not (options.all or options.id or options.reason):
        raise ConfigurationError("say which letters to throw away: --id, --reason, or --all")
    return _settle(broker, options, dead_letters.purge, "purged")


def save_letter(broker: BrokerCore, options: argparse.Namespace) -> Answer:
    """Write the original bytes of one dead letter to a file."""
    selection = dead_letters.Selection(frozenset([options.id]))
    failures = Failures()
    for topic in topics_of(options):
        found: list[Message] = []
        with failures.noted(topic):
            read = dead_letters.read_letters(broker, topic, options.wait)
            found += filter(selection.takes, read.letters)
        if not found:
            continue
        data = original_message.original_body(broker, found[0])
        try:
            write_file(options.output, data)
        except OSError as error:
            raise BrokerError(f"{options.output} cannot be written: {error.strerror}") from None
        document = {"saved": str(options.output), "bytes": len(data)}
        return document, [counted(len(data), "byte")], True
    line = f"no dead letter {options.id}: `python -m MessageBroker dead-letters list` shows them"
    document, lines, _ = failures.beside({"saved": None}, [line])
    return document, lines, False


def _settle(
    broker: BrokerCore,
    options: argparse.Namespace,
    settle: Callable[[BrokerCore, str, dead_letters.Selection, float], dead_letters.Outcome],
    done: str,
) -> Answer:
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    complete, selected = True, 0
    failures = Failures()
    for topic in topics_of(options):
        with failures.noted(topic):
            outcome = settle(broker, topic, selection_of(options), options.wait)
            complete &= outcome.complete
            selected += outcome.selected
            stays = [f"{brief(each)} stays: {why}" for each, why in outcome.failures.items()]
            failures.add(topic, stays)
            name = dead_letters.topic_of_letters(topic)
            rows.append({"topic": name, done: outcome.selected, "kept": outcome.kept})
            lines.append(f"{name}: {outcome.selected:,} {done}, {outcome.kept:,} kept")
    if not complete:
        lines.append("newer letters stood in the way of older ones: run it again")
    missed = not selected and bool(options.id or options.reason)
    if missed and not failures:
        lines.append(
            "no letter has such an --id or --reason: `python -m MessageBroker dead-letters list` "
            "shows those that there are"
        )
    document = {"dead_letters": rows, "complete": complete, "selected": selected}
    document, lines, fine = failures.beside(document, lines)
    return document, lines, fine and complete and not missed


class Failures:
    """What could not be shown of several topics; the others are shown all the same."""

    # Of one topic alone: what the broker says of it. If the broker is away, it is for all.
    _OF_ONE_TOPIC = (AuthenticationError, SubscriptionNotFoundError, TopicNotFoundError)

    def __init__(self) -> None:
        self._errors: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._errors)

    @contextlib.contextmanager
    def noted(self, topic: str) -> Iterator[None]:
        """Note what fails for this topic."""
        try:
            yield
        except self._OF_ONE_TOPIC as error:
            self.add(topic, [str(error)])

    def add(self, topic: str, errors: Sequence[str]) -> None:
        """Add what else failed for this topic."""
        self._errors += [(topic, each) for each in errors]

    def beside(self, document: dict[str, Any], lines: list[str]) -> Answer:
        """Add what failed to what is shown."""
        if not self._errors:
            return document, lines, True
        failed = [{"topic": topic, "error": error} for topic, error in self._errors]
        told = dict.fromkeys(error for _, error in self._errors)
        return {**document, "failures": failed}, [*lines, *told], False


# ---------------------------------------------------------------------- the options


def topics_of(options: argparse.Namespace) -> list[str]:
    """Return the topics that were named, else those of the pipeline."""
    if options.topics:
        return list(options.topics)
    topics = read_broker_config(options.config_dir).topics
    return [topics.images, topics.inferences]


def selection_of(options: argparse.Namespace) -> dead_letters.Selection:
    """Return which letters were asked for."""
    return dead_letters.Selection(frozenset(options.id), frozenset(options.reason))


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = command_parser("python -m MessageBroker", description=__doc__)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    ping_options = _add(commands, "ping", ping)
    ping_options.add_argument(
        "--timeout", type=not_negative, default=DEFAULT_PING_SECONDS, metavar="SECONDS"
    )

    topics = commands.add_parser("topics", help="create, list, delete topics")
    actions = topics.add_subparsers(metavar="ACTION", required=True)
    _add(actions, "create", create_topics).add_argument("topics", nargs="*", metavar="TOPIC")
    _add(actions, "list", list_topics)
    _add(actions, "delete", delete_topics).add_argument("topics", nargs="+", metavar="TOPIC")

    counting = _add(commands, "backlog", backlog)
    counting.add_argument("topics", nargs="*", metavar="TOPIC")
    counting.add_argument(
        "--subscription", type=nonempty, metavar="ID", help="default: the topic's own"
    )

    letters = commands.add_parser("dead-letters", help="list, replay, purge, save dead letters")
    actions = letters.add_subparsers(metavar="ACTION", required=True)
    for name, command in (
        ("list", list_letters),
        ("replay", replay_letters),
        ("purge", purge_letters),
    ):
        action = _add(actions, name, command)
        action.add_argument("topics", nargs="*", metavar="TOPIC")
        action.add_argument(
            "--id", action="append", default=[], help="of the letter, the message or the event"
        )
        action.add_argument(
            "--reason", action="append", default=[], help="as the list names it, to the letter"
        )
        action.add_argument(
            "--wait",
            type=not_negative,
            default=dead_letters.FAILOVER_SECONDS,
            metavar="SECONDS",
            help="for letters that a reader held which was killed, where the broker cannot count "
            "(Pub/Sub); default: %(default)g",
        )
        if command is purge_letters:
            action.add_argument("--all", action="store_true", help="throw everything away")

    saving = _add(actions, "save", save_letter)
    saving.add_argument("id", metavar="ID", help="of the letter, the message or the event")
    saving.add_argument("topics", nargs="*", metavar="TOPIC")
    saving.add_argument("--output", type=path_name, required=True, metavar="FILE")
    saving.add_argument(
        "--wait", type=not_negative, default=dead_letters.FAILOVER_SECONDS, help="as for the others"
    )
    return top


def _add(commands: Any, name: str, command: Command) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(name, help=command.__doc__)
    add_broker_option(added)
    added.add_argument("--config-dir", type=folder_name, help="another folder of INI files")
    added.add_argument("--json", action="store_true", help="print JSON")
    added.set_defaults(run=run_command, command=command)
    return added


if __name__ == "__main__":
    sys.exit(main())
