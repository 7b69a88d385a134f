"""What the page costs while much goes round; `python -m benchmarks.page` has the figures."""

from __future__ import annotations

import pytest

from benchmarks.page import measure
from tests.page.site import Site

RATE = 200
SECONDS = 40


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_two_hundred_images_a_second_are_shown_at_little_cost_and_all_stored(seen: Site) -> None:
    measured = measure(seen, RATE, SECONDS)  # which looks that each is stored once
    assert measured["page, of a core"] < 0.1
    assert measured["memory at last (MB)"] < measured["memory at first (MB)"] + 20
    assert measured["most behind (s)"] < 1.0
