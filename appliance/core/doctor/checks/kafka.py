"""Kafka: whether a configured broker answers, and why not."""

from __future__ import annotations

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult
from appliance.errors import ApplianceError


async def run(context: DoctorContext) -> CheckResult:
    """Connect to the bootstrap servers, log in, ask for the cluster."""
    if context.kafka is None:
        return CHECK.absent("Kafka is not configured; events stay on this machine", "set kafka.bootstrap_servers")
    from appliance.core.streams.kafka import probe

    try:
        server = await probe(context.kafka)
    except ApplianceError as error:
        return CHECK.failed(error.message.rstrip("."), error.next_step.rstrip("."))
    return CHECK.ok(f"{server} answers")


CHECK = Check("kafka", "Kafka", run, timeout=25.0)
