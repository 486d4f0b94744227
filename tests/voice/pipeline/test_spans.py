"""A turn as a trace, with the spans that are really written."""

from __future__ import annotations

from typing import Any

from appliance.core.observe.observer import Observer
from appliance.core.observe.otel import Maker
from appliance.core.voice.model import Outcome, Reply, Stage
from tests.support import wait_for
from tests.voice.pipeline.conftest import Scripted, Speaking

PARTS = {"voice stt", "voice understand", "voice tts"}


async def test_a_turn_is_one_trace_without_words(speaking: Speaking, script: Scripted) -> None:
    taken: list[Any] = []
    observer = Observer()
    observer.spans.switch(Maker({"service.name": "test"}, 1.0, taken.append).begin)
    script.hearing.hits.append(0.9)
    script.hearing.words.append("Hey spark, what is the battery level?")
    script.talker.replies.append(Reply("It is at 80 percent.", Outcome.done, action="power.status"))
    async with speaking({"observer": observer}) as rig:
        await rig.at(Stage.idle)
        rig.say("hey spark what is the battery level")
        (one,) = await rig.utterances(1)
        await wait_for(lambda: "voice turn" in {span.name for span in taken})
    spans = {span.name: span for span in taken if f"{span.context.trace_id:032x}" == one.trace_id}
    assert PARTS | {"voice turn"} <= set(spans), f"{one.trace_id}: {[span.name for span in taken]}"
    turn = spans["voice turn"]
    assert {spans[name].parent.span_id for name in PARTS} == {turn.context.span_id}
    assert dict(turn.attributes) == {"prime_spark.origin": "microphone", "prime_spark.outcome": "done"}
    assert turn.start_time <= min(spans[name].start_time for name in PARTS)
    assert max(spans[name].end_time for name in PARTS) <= turn.end_time
    everything = " ".join(str(dict(span.attributes)) for span in taken)
    assert "battery" not in everything
    assert "80" not in everything
