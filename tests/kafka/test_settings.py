"""What the settings of Kafka's clients tell whoever starts with them."""

from __future__ import annotations

import pytest

from MessageBroker.kafka.settings import KafkaSettings

SERVERS = {"bootstrap.servers": "localhost:9092", "security.protocol": "SASL_SSL"}


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("enable.ssl.certificate.verification", "false"),
        ("ssl.endpoint.identification.algorithm", "none"),
    ],
)
@pytest.mark.parametrize("section", range(3))
def test_a_check_of_tls_that_is_switched_off_is_told(
    name: str, off: str, section: int, caplog: pytest.LogCaptureFixture
) -> None:
    sections: list[dict[str, str]] = [dict(SERVERS), {}, {}]
    KafkaSettings(*sections)
    assert caplog.text == ""
    sections[section][name] = off
    KafkaSettings(*sections)
    assert caplog.text.count(f"{name} = {off}: whoever is on the way") == 1
