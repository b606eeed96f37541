"""When the brokers refuse the connection itself, and when they only broke off while it was made."""

from __future__ import annotations

from confluent_kafka import KafkaError

from sinkworker.outgoing import Link

REFUSED = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: invalid credentials")
BROKE_OFF = KafkaError(
    KafkaError._AUTHENTICATION, "SaslAuthenticateRequest failed: Broker transport failure (after 0ms in state DOWN)"
)
GONE = KafkaError(KafkaError._TRANSPORT, "Connect to 127.0.0.1:1 failed: Connection refused")


def told(*errors: KafkaError) -> Link:
    link = Link()
    for error in errors:
        link.fails(error)
    return link


def test_refusals_shut_a_client_out() -> None:
    link = told(REFUSED, GONE, REFUSED, GONE)
    assert link.shut_out
    assert link.trouble == REFUSED  # not what came of it


def test_one_refusal_may_be_a_broker_that_ends() -> None:
    link = told(REFUSED, GONE, GONE)
    assert not link.shut_out
    assert link.trouble == GONE


def test_a_connection_that_broke_off_in_the_handshake_is_no_refusal() -> None:
    assert not told(BROKE_OFF, BROKE_OFF, BROKE_OFF).shut_out


def test_a_confirmation_makes_good_for_what_was_before() -> None:
    link = told(REFUSED)
    link.heard()
    link.fails(REFUSED)
    assert not link.shut_out
