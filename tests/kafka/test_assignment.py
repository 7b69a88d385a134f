"""How far a partition is acknowledged: properties of the tracker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from MessageBroker.kafka.assignment import MIN_COMPACTED, KafkaDelivery, PartitionTracker
from MessageBroker.message import DeliveryState


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """A start, the offsets delivered from there on, and the order in which some are acked."""
    start = draw(st.integers(0, 5))
    # Compaction and transactions leave gaps.
    gaps = draw(st.lists(st.integers(1, 4), max_size=40))
    offsets, last = [], start - 1
    for gap in gaps:
        last += gap
        offsets.append(last)
    acked = draw(st.permutations(offsets))
    return start, offsets, acked[: draw(st.integers(0, len(acked)))]


def tracked(start: int, offsets: list[int]) -> tuple[PartitionTracker, dict[int, KafkaDelivery]]:
    """A tracker after these offsets were delivered, and their deliveries."""
    tracker = PartitionTracker(0, start)
    deliveries = {offset: KafkaDelivery(tracker, offset, 0) for offset in offsets}
    if offsets:
        tracker.deliver(list(deliveries.values()))
    return tracker, deliveries


@given(histories())
def test_nothing_unacknowledged_is_ever_below_the_offset_to_commit(
    history: tuple[int, list[int], list[int]],
) -> None:
    start, offsets, acked = history
    tracker, deliveries = tracked(start, offsets)
    for i, offset in enumerate(acked, 1):
        deliveries[offset].state = DeliveryState.DONE

        to_commit = tracker.offset_to_commit

        assert all(each >= to_commit for each in set(offsets) - set(acked[:i]))


@given(histories())
def test_the_offset_to_commit_is_the_first_unacknowledged_or_just_after_the_last(
    history: tuple[int, list[int], list[int]],
) -> None:
    start, offsets, acked = history
    tracker, deliveries = tracked(start, offsets)
    for offset in acked:
        deliveries[offset].state = DeliveryState.DONE

    unacked = set(offsets) - set(acked)

    end = offsets[-1] + 1 if offsets else start
    assert tracker.offset_to_commit == min(unacked, default=end)


@given(histories())
def test_the_offset_to_commit_never_goes_back(history: tuple[int, list[int], list[int]]) -> None:
    start, offsets, acked = history
    tracker, deliveries = tracked(start, offsets)
    to_commit = [tracker.offset_to_commit]
    for offset in acked:
        deliveries[offset].state = DeliveryState.DONE
        to_commit.append(tracker.offset_to_commit)

    assert to_commit == sorted(to_commit)


@given(histories())
def test_what_is_lost_with_the_partition_is_what_was_not_acknowledged(
    history: tuple[int, list[int], list[int]],
) -> None:
    start, offsets, acked = history
    tracker, deliveries = tracked(start, offsets)
    for offset in acked:
        deliveries[offset].state = DeliveryState.DONE
        deliveries[offset].state = DeliveryState.DONE  # twice is fine

    lost = [delivery for offset, delivery in deliveries.items() if offset not in acked]
    assert tracker.unacknowledged() == lost


def test_one_that_waits_costs_no_memory_for_those_that_flow_past_it() -> None:
    tracker = PartitionTracker(0, 0)
    _, stuck = tracked(0, [0])
    tracker.deliver([stuck[0]])
    for offset in range(1, 20 * MIN_COMPACTED):
        _, passing = tracked(0, [offset])
        tracker.deliver([passing[offset]])
        passing[offset].state = DeliveryState.DONE

    assert tracker.offset_to_commit == 0
    assert len(tracker._delivered) <= MIN_COMPACTED + 1

    stuck[0].state = DeliveryState.DONE
    assert tracker.offset_to_commit == 20 * MIN_COMPACTED


def test_what_comes_again_after_the_client_went_back_is_to_be_acknowledged_anew() -> None:
    """As it does where its offset is out of range: beyond the end of a log that was cut."""
    tracker, _ = tracked(100, [100, 101])
    again = [KafkaDelivery(tracker, offset, 0) for offset in (3, 4)]

    tracker.deliver(again)
    again[0].state = DeliveryState.DONE

    assert tracker.offset_to_commit == 4
    assert (tracker.stored_offset, tracker.position) == (3, 5)
