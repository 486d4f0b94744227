"""The voice as lines and rows: what is not known is a dash, what is not of now is no meter, and all of it fits a console."""

from __future__ import annotations

import re

import msgspec
import pytest

from appliance.core.model import Health, ServiceStatus
from appliance.core.voice.model import LedgerTotals, Outcome, Place, Stage, Timings, VoiceStatus
from appliance.screens import voice_rows as rows
from appliance.screens import voice_sound as sound
from appliance.screens import voice_view as view
from appliance.screens.glyphs import CONSOLE, FULL, Glyphs, unsafe
from appliance.screens.voice import fitted
from appliance.screens.voice_told import timing_lines, utterance_lines
from appliance.screens.widgets.grid import Row
from appliance.screens.widgets.lines import Line, width_of
from appliance.verbs.voice_text import utterance
from tests.screens import voices

SHAPES = pytest.mark.parametrize(("width", "height"), [(36, 6), (54, 11), (20, 3), (12, 1), (1, 1)])


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def cells(row: Row) -> list[str]:
    return [cell if isinstance(cell, str) else cell[0] for cell in row.cells]


def sounds(level: object = None, age: float | None = 0.1, width: int = 36, height: int = 6, **more: bool) -> str:
    found = level if level is not None else voices.level()
    return text_of(sound.sound_lines(found, age, "nothing is measured", width, height, CONSOLE, **more))  # type: ignore[arg-type]


def test_what_was_understood_stands_where_it_was_heard_otherwise() -> None:
    """In the list and the summary alone, in the details beside the words as they were heard."""
    odd = voices.utterance(words="i have got a jolly lurks", understood="acknowledge all alerts")
    plain = voices.utterance(1, understood="")
    assert [cells(row)[1] for row in rows.heard_rows([odd, plain])] == ["acknowledge all alerts", "what is the battery"]
    assert '"acknowledge all alerts"' in text_of(view.last([odd], 40))
    told = text_of(utterance_lines(odd, 100, CONSOLE))
    assert re.search(r'heard +"i have got a jolly lurks"', told)
    assert re.search(r'understood +"acknowledge all alerts"', told)
    assert (
        'heard "i have got a jolly lurks" by local, understood "acknowledge all alerts"'
        in utterance(msgspec.to_builtins(odd))[0]
    )
    assert "understood" not in utterance(msgspec.to_builtins(plain))[0]


# -- the sound -------------------------------------------------------------------------------------------------------------


def test_level_peak_and_direction_are_told() -> None:
    told = sounds()
    assert "-31 dB" in told
    assert "peak  -14  clipped 0 %  speech 92 %" in told
    assert "·····●·········· 113°" in told
    assert unsafe(told.replace("\n", "")) == set()


def test_a_level_that_is_not_of_now_is_no_meter() -> None:
    """Neither where none ever came, nor where the last one is old: no bar, no number."""
    never = text_of(sound.sound_lines(None, None, "nothing is measured", 36, 6, CONSOLE))
    assert never == sounds(age=sound.STALE + 1) == " nothing is measured"


@pytest.mark.parametrize(
    ("problem", "text"), [("silent", "digital silence"), ("clipped", "turn the gain down"), ("offset", "off centre")]
)
def test_what_is_wrong_with_the_sound_is_said(problem: str, text: str) -> None:
    assert text in sounds(voices.level(problem=problem))
    assert text not in sounds()


def test_the_bar_grows_with_the_level_and_the_mark_stands_at_the_peak() -> None:
    filled = []
    for rms in (-96.0, -60.0, -20.0, 0.0):
        line = "".join(text for text, _ in sound.level_line(voices.level(rms_db=rms, peak_db=-1.0), 36, CONSOLE))
        filled.append(line.count(CONSOLE.fill))
        assert line.count(sound.PEAK) == 1
        assert line.index(sound.PEAK) > 20
    assert filled == sorted(filled)
    assert filled[0] == 0
    assert filled[-1] > 15


def test_a_peak_at_full_scale_is_bad_news() -> None:
    assert "bad" in {role for _, role in sound.level_line(voices.level(peak_db=-0.5), 36, CONSOLE)}
    assert "ok" in {role for _, role in sound.level_line(voices.level(peak_db=-30.0), 36, CONSOLE)}
    assert "<1 %" in text_of([sound.peak_line(voices.level(clipped=0.001))])


@SHAPES
@pytest.mark.parametrize("glyphs", [CONSOLE, FULL], ids=["console", "full"])
def test_the_sound_keeps_to_its_room(width: int, height: int, glyphs: Glyphs) -> None:
    for found in (voices.level(), voices.level(direction=None, bands=()), voices.level(problem="silent")):
        lines = sound.sound_lines(found, 0.1, "why", width, height, glyphs)
        if width >= 36:
            assert len(lines) <= height
            assert max(width_of(line) for line in lines) <= width
        for line in sound.dial(found.direction, "0 s", "why", width, height):
            assert width_of(line) <= max(width, 16)


def test_louder_bands_stand_higher() -> None:
    bands = tuple(-84.0 + 4.4 * at for at in range(16))
    lines = [text for ((text, _),) in sound.spectrum(bands, 36, 3, CONSOLE)]
    assert len(lines) == 3
    heights = [sum(CONSOLE.spark.index(line[1 + 2 * at]) for line in lines) for at in range(16)]
    assert heights == sorted(heights)
    assert heights[0] < heights[-1] == 3 * (len(CONSOLE.spark) - 1)


@pytest.mark.parametrize(("direction", "number"), [(0, 0), (11, 0), (12, 1), (90, 4), (113, 5), (180, 8), (349, 0), (359, 0)])
def test_sectors(direction: int, number: int) -> None:
    assert sound.sector(direction) == number


def test_the_dial_goes_clockwise_from_the_top() -> None:
    where = {}
    for direction in (0, 90, 180, 270):
        lines = text_of(sound.dial(direction, "3 s", "why", 23, 11)).split("\n")
        (row,) = [at for at, line in enumerate(lines) if sound.HERE in line]
        where[direction] = (row, lines[row].index(sound.HERE))
        assert f"{direction}°" in "".join(lines)
        assert "3 s" in "".join(lines)
    assert (where[0][0], where[180][0]) == (0, 10)
    assert where[90][1] > where[0][1] > where[270][1]
    assert where[90][0] == where[270][0] == 5


def test_without_an_array_no_direction_is_made_up() -> None:
    assert "from  –" in sounds(voices.level(direction=None))
    assert text_of(sound.dial(None, "0 s", "no array", 23, 11)) == " no array"


# -- now -------------------------------------------------------------------------------------------------------------------


def now(status: VoiceStatus | None, **more: bool) -> str:
    return text_of(view.now_lines(status, (), CONSOLE, **more))


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_is_named_with_a_sign_of_the_console(stage: Stage) -> None:
    told = now(voices.status(stage))
    assert stage.value.upper() in told
    assert unsafe(told.replace("\n", "")) == set()


def test_absence_has_its_reason_and_next_step() -> None:
    told = now(voices.absent())
    assert "No microphone was found." in told
    assert "Next: connect a USB microphone." in told
    service = ServiceStatus(
        name="voice", summary="", health=Health.absent, phase="running", reason="voice is switched off",  # type: ignore[arg-type]
        next_step="set voice.enabled.", depends=(), restarts=0, since=0.0, checked=0.0,
    )  # fmt: skip
    told = text_of(view.now_lines(None, (service,), CONSOLE))
    assert "Voice is switched off." in told
    assert "Next: set voice.enabled." in told
    assert "ABSENT" in told
    assert "was not read yet" in now(None)


def test_without_a_microphone_the_status_has_the_next_step_itself() -> None:
    gone = VoiceStatus(Stage.absent, 0.0, why="no capture device, and no sound server", next_step="plug a microphone in.")
    told = now(gone)
    assert "No capture device, and no sound server." in told
    assert "Next: plug a microphone in." in told


def test_what_has_no_room_ends_in_an_ellipsis() -> None:
    lines: list[Line] = [
        ((" answered    ", "muted"), ("All right, nothing was", "muted")),
        ((" " * 13, "muted"), ("done.", "muted")),
    ]
    assert fitted(lines, 40, 2) == lines
    for width, told in ((40, " answered    All right, nothing was…"), (35, " answered    All right, nothing wa…")):
        assert text_of(fitted(lines, width, 1)) == told
        assert width_of(fitted(lines, width, 1)[0]) <= width
    assert text_of(fitted([(), *lines], 40, 1)) == "…"


def test_it_says_what_it_waits_for_and_what_it_hears() -> None:
    assert 'say "hey spark" or "hey prime", or press Space' in now(voices.status())
    assert "press Space, and speak" in now(voices.status(wake=()))
    assert '"restart the tel"' in now(voices.status(Stage.listening, hearing="restart the tel"))
    told = now(voices.status(Stage.confirming, asking="Restart telemetry?"))
    assert "Restart telemetry?" in told
    assert "yes or no" in told
    assert "The battery is at 80 percent." in now(voices.status())
    assert "edge-only; nothing has left the house" in now(voices.status(), wide=True)


def test_what_is_wrong_has_its_next_step() -> None:
    told = "".join(text for text, _ in view.trouble(voices.status(degraded="The cloud is away.", engines=(voices.AWAY,))))
    assert told == " The cloud is away. attic (stt): it does not answer. Next: start its server"
    assert view.trouble(voices.status()) == []
    assert view.trouble(voices.status(wake=voices.BROKEN))[0][0] == ' "hey prime": its model cannot be read.'
    gone = msgspec.structs.replace(voices.MICROPHONE, problem="it went away", next_step="plug it in")
    told = "".join(text for text, _ in view.trouble(voices.status(microphone=gone)))
    assert told == " it went away. Next: plug it in"


# -- tables ----------------------------------------------------------------------------------------------------------------


def test_an_utterance_is_a_row_with_its_way_and_its_times() -> None:
    first, second = rows.heard_rows([
        voices.utterance(fell_back=("attic: does not answer",), place=Place.local),
        voices.utterance(1, words="", action="", reply="", engine="", outcome=Outcome.empty, timings=Timings()),
    ])  # fmt: skip
    assert cells(first)[1:4] == ["what is the battery", "power.status", "done"]
    assert cells(first)[5:] == ["local, 1 before", "290 ms", "340 ms", "21 ms", "655 ms"]
    assert cells(second)[1:] == ["(no words)", "–", "empty", "", "–", "–", "–", "–", "–"]


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_colour(outcome: Outcome) -> None:
    (row,) = rows.heard_rows([voices.utterance(outcome=outcome)])
    assert row.cells[3] == (outcome.value, view.OUTCOMES[outcome])


def test_a_wake_word_shows_its_score_against_its_threshold() -> None:
    heard, broken = rows.wake_rows((voices.WAKE[0], *voices.BROKEN), CONSOLE)
    assert cells(heard)[:4] == ["hey spark", "0.12", "0.83", "0.50"]
    assert heard.cells[2][1] == "ok"
    assert broken.cells[2][1] == "text"
    assert "its model cannot be read" in cells(broken)[-1]
    assert "speech recognition; last" in cells(heard)[-1]
    assert cells(broken)[1:3] == ["–", "–"], "nobody looked for it"


def test_an_engine_says_how_it_is_and_what_to_do() -> None:
    well, ill = rows.engine_rows((voices.LOCAL, voices.AWAY), CONSOLE)
    assert cells(well) == ["local", "stt", "local", "● healthy", "31", "0", "340 ms", "moonshine-tiny-en; loaded"]
    assert cells(ill)[3:] == ["✗ unhealthy", "3", "4", "810 ms", "it does not answer. Next: start its server"]
    fresh = msgspec.structs.replace(voices.LOCAL, last_ms=None)
    assert cells(rows.engine_rows((fresh,), CONSOLE)[0])[6] == "–"


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.31, "0.3 ms"), (41.0, "41 ms"), (2500.0, "2.5 s")])
def test_short_times_have_a_decimal(value: float | None, text: str) -> None:
    assert view.quick(value) == text


# -- facts and one utterance ----------------------------------------------------------------------------------------------


def test_facts_tell_losses_privacy_and_the_server() -> None:
    lossy = msgspec.structs.replace(voices.MICROPHONE, overruns=1, lost_samples=512, reopened=2)
    totals = LedgerTotals(1_200_000, 50 * 2**20, 90_000_000, 900, 312)
    told = text_of(view.fact_lines(voices.status(microphone=lossy, privacy="cloud", ledger=totals)))
    for text in (
        "6 channels at 16000 Hz, 1 overrun, 512 samples lost, opened anew 2 times", "Desk Speaker: silent, 0 underruns",
        "firmware 3.0, it hears a voice", "cloud; today 1.1 MiB of 50.0 MiB of sound and 900 B of words left the house",
        "85.8 MiB in 312 requests", "tcp://127.0.0.1:10700, 1 client", "done 31, unknown 2", "the role operator",
    ):  # fmt: skip
        assert text in told
    bare = text_of(view.fact_lines(VoiceStatus(Stage.absent, 0.0)))
    for text in ("none: answers are shown, not said", "none: no direction is known", "nothing has left the house", "closed"):
        assert text in bare
    assert view.fact_lines(None) == []


def test_a_closed_microphone_has_no_channels_and_no_rate() -> None:
    shut = msgspec.structs.replace(voices.MICROPHONE, open=False, channels=1)
    told = text_of(view.fact_lines(voices.status(microphone=shut)))
    assert (": closed, 0 overruns" in told, " Hz" in told) == (True, False)


def test_one_utterance_in_full() -> None:
    told = text_of(utterance_lines(voices.utterance(note="clipped", direction=113, fell_back=("attic: gone",)), 76, CONSOLE))
    for text in ('"what is the battery"', "hey spark, score 0.83", "113°", "attic: gone", "clipped", "93 %", "655 ms"):
        assert text in told
    assert unsafe(told.replace("\n", "")) == set()


def test_bars_of_times_are_to_one_scale_and_unknown_ones_are_dashes() -> None:
    lines = [text_of([line]) for line in timing_lines(Timings(speech=1000.0, stt=500.0, act=1.0), 76, CONSOLE)]
    lengths = [line.count(CONSOLE.fill) for line in lines]
    assert lengths[0] == max(lengths) > 20
    assert lengths[2] * 2 - lengths[0] in (-1, 0, 1)
    assert lengths[4] == 1
    assert [bool(re.search("–", line)) for line in lines] == [False, True, False, True, False, True, True, True]
    assert all("–" in text_of([line]) for line in timing_lines(Timings(), 76, CONSOLE))
