"""A sink in a process of its own, which a test can stop. Its arguments: Kafka's address, prefix of the topics, DSN."""

from __future__ import annotations

import asyncio
import logging
import sys

from tests.sink.rig import made_sink


async def main() -> None:
    """Until killed."""
    bootstrap, prefix, dsn = sys.argv[1:]
    sink = made_sink(bootstrap, prefix, dsn, batch_rows=200)
    await sink.start()
    await sink.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
