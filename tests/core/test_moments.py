"""The one parser of RFC 3339 times, and what writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from DurableText.moments import MAX_CHARACTERS, age_of, seconds_of, timestamp, valid_time

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T12:00:00Z", 0.0),
        ("2026-01-01T12:00:00.5Z", 0.5),
        ("2026-01-01T12:00:00.25Z", 0.25),
        ("2026-01-01t12:00:00.123z", 0.123),
        ("2026-01-01T12:00:00.123456789Z", 0.123456),
        ("2026-01-01T13:00:00.123+01:00", 0.123),
        ("2026-01-01T06:30:00-05:30", 0.0),
        ("2026-01-01T12:00:00-00:00", 0.0),
    ],
)
def test_times_are_read_as_rfc_3339_allows_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(NOON + seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T12:00:00",  # of which place on earth?
        "2026-01-01",
        "2026-01-01T25:00:00Z",
        "yesterday",
        "",
        None,
        1767268800,
        f"2026-01-01T12:00:00.{'0' * MAX_CHARACTERS}Z",
    ],
)
def test_what_is_no_moment_is_none(text: object) -> None:
    assert seconds_of(text) is None
    assert age_of(text) is None


def test_the_longest_text_that_is_read_has_the_limit_s_length() -> None:
    text = "2026-01-01T12:00:00." + "0" * (MAX_CHARACTERS - 21) + "Z"
    assert len(text) == MAX_CHARACTERS
    assert seconds_of(text) == NOON
    assert seconds_of(text.replace("Z", "0Z")) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_ends_of_the_calendar_have_seconds_too(text: str) -> None:
    assert seconds_of(text) is not None


def test_what_is_written_is_read_again_and_is_utc() -> None:
    moment = datetime(2026, 1, 1, 13, 0, 0, 123_000, tzinfo=timezone(timedelta(hours=1)))
    assert timestamp(moment) == "2026-01-01T12:00:00.123Z"
    assert seconds_of(timestamp(moment)) == moment.timestamp()
    assert age_of(timestamp()) < 60


def test_no_age_is_below_zero() -> None:
    assert age_of("2026-01-01T12:00:10Z", NOON) == 0.0
    assert age_of("2026-01-01T12:00:00Z", NOON + 3) == 3.0


@pytest.mark.parametrize(
    "text",
    [
        "2026-W01-4T12:00:00Z",
        "20260101T120000Z",
        "2026-01-01T12:00Z",
        "2026-01-01 12:00:00Z",
        "2026-01-01T12:00:00+01",
        "2026-01-01T12:00:00+0100",
        "2026-01-01T12:00:00,5Z",
    ],
)
def test_other_forms_of_iso_8601_are_no_times_of_events(text: str) -> None:
    assert seconds_of(text) is not None
    assert valid_time(text) is None


def test_a_time_of_an_event_is_handed_on_in_capitals_and_with_its_offset() -> None:
    assert valid_time("2026-01-01t12:00:00.123456789z") == "2026-01-01T12:00:00.123456789Z"
    assert valid_time("2026-01-01T13:00:00+01:00") == "2026-01-01T13:00:00+01:00"
