"""The hash of Java's producers, against what `org.apache.kafka.common.utils.Utils.murmur2` of Kafka 4.1 answered."""

from __future__ import annotations

from hashlib import sha256

import pytest

from sinkworker.murmur2 import murmur2


def signed(data: bytes) -> int:
    """As Java has it."""
    found = murmur2(data)
    return found - (found >> 31 << 32)


@pytest.mark.parametrize(
    ("key", "answered"),
    [
        ("", 275646681),
        ("21", -973932308),
        ("abc", 479470107),
        ("foobar", -790332482),
        ("Größe-7", 1923130453),
        ("LoanRequest-1", -135362960),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_it_is_what_java_answers(key: str, answered: int) -> None:
    assert signed(key.encode()) == answered


def test_it_is_what_java_answers_for_5000_keys_of_every_length() -> None:
    """Each answer of Java's as a line of decimal digits, and SHA-256 over all of them."""
    answers = sha256()
    for number in range(5000):
        key = bytes((number * 7 + place * 31) % 256 for place in range(number % 67))
        answers.update(b"%d\n" % signed(key))
    assert answers.hexdigest() == "dcb4ab235c5bb936cd17545b88f2a79e19a1f1b391961815c39584ede43d8b7d"
