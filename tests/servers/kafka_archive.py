"""Set-up's last step for Kafka: run it once, use it, and keep the classes that it loaded, so that it starts sooner in tests."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.servers.kafka import KafkaServer
from tests.servers.kafka_java import ARCHIVE, QUICK
from tests.servers.kafka_security import SECURED

PATIENCE = 120.0  # seconds for writing the archive


async def use(server: KafkaServer) -> None:
    """Send a message and read it as a group does."""
    await server.create_topic("archive")
    async with AIOKafkaProducer(**server.client("SASL_SSL"), enable_idempotence=True, compression_type="snappy") as producer:
        await producer.send_and_wait("archive", b"message")
    plain = server.client()
    async with AIOKafkaConsumer("archive", **plain, group_id="archive", auto_offset_reset="earliest") as consumer:
        await consumer.getone()


def main() -> None:
    """Write the archive beside the jars."""
    ARCHIVE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="prime-spark-kafka-") as directory:
        options = (*QUICK, f"-XX:ArchiveClassesAtExit={ARCHIVE}")
        with KafkaServer(Path(directory), SECURED, options=options) as server:
            asyncio.run(use(server))
            server.child.stop(timeout=PATIENCE)


if __name__ == "__main__":
    main()
