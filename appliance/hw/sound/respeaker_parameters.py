"""The parameters of the XMOS XVF-3000 on the ReSpeaker USB 4-Mic Array, as its maker documents them."""

from __future__ import annotations

from typing import NamedTuple


class Parameter(NamedTuple):
    """One parameter."""

    ident: int
    """Which part of the chip: 18 echo canceller, 19 beamformer and what follows it, 21 direction."""
    offset: int
    whole: bool
    """An integer; else a float."""
    least: float
    most: float
    writable: bool
    meaning: str


def _switch(ident: int, offset: int, meaning: str) -> Parameter:
    return Parameter(ident, offset, True, 0, 1, True, f"{meaning}: 0 off, 1 on.")


def _told(ident: int, offset: int, meaning: str, most: float = 1) -> Parameter:
    return Parameter(ident, offset, True, 0, most, False, meaning)


def _number(ident: int, offset: int, least: float, most: float, meaning: str) -> Parameter:
    return Parameter(ident, offset, False, least, most, True, meaning)


PARAMETERS = {
    "AECFREEZEONOFF": _switch(18, 7, "Echo canceller stays as it is, and only filters"),
    "AECNORM": _number(18, 19, 0.25, 16, "Limit of the norm of the echo canceller's coefficients."),
    "AECPATHCHANGE": _told(18, 25, "The path of the echo has changed."),
    "RT60": Parameter(18, 26, False, 0.25, 0.9, False, "Reverberation of the room, seconds to -60 dB."),
    "HPFONOFF": Parameter(18, 27, True, 0, 3, True, "High-pass filter: 0 off, 1 at 70 Hz, 2 at 125 Hz, 3 at 180 Hz."),
    "RT60ONOFF": _switch(18, 28, "Estimate the reverberation"),
    "AECSILENCELEVEL": _number(18, 30, 1e-9, 1, "Power from which the echo canceller takes what is played for sound."),
    "AECSILENCEMODE": _told(18, 31, "Nothing is played now."),
    "AGCONOFF": _switch(19, 0, "Automatic gain"),
    "AGCMAXGAIN": _number(19, 1, 1, 1000, "Greatest factor of the automatic gain."),
    "AGCDESIREDLEVEL": _number(19, 2, 1e-8, 0.99, "Power that the automatic gain aims at."),
    "AGCGAIN": _number(19, 3, 1, 1000, "Factor of the automatic gain now."),
    "AGCTIME": _number(19, 4, 0.1, 1, "Time constant of the automatic gain, seconds."),
    "CNIONOFF": _switch(19, 5, "Comfort noise"),
    "FREEZEONOFF": _switch(19, 6, "Beamformer stays as it is, and only filters"),
    "STATNOISEONOFF": _switch(19, 8, "Suppression of steady noise"),
    "GAMMA_NS": _number(19, 9, 0, 3, "Over-subtraction of steady noise."),
    "MIN_NS": _number(19, 10, 0, 1, "Least gain in the suppression of steady noise."),
    "NONSTATNOISEONOFF": _switch(19, 11, "Suppression of changing noise"),
    "GAMMA_NN": _number(19, 12, 0, 3, "Over-subtraction of changing noise."),
    "MIN_NN": _number(19, 13, 0, 1, "Least gain in the suppression of changing noise."),
    "ECHOONOFF": _switch(19, 14, "Echo suppression"),
    "GAMMA_E": _number(19, 15, 0, 3, "Over-subtraction of the direct and early echo."),
    "GAMMA_ETAIL": _number(19, 16, 0, 3, "Over-subtraction of the late echo."),
    "GAMMA_ENL": _number(19, 17, 0, 5, "Over-subtraction of the non-linear echo."),
    "NLATTENONOFF": _switch(19, 18, "Attenuation of the non-linear echo"),
    "NLAEC_MODE": Parameter(19, 20, True, 0, 2, True, "Training for the non-linear echo: 0 off, 1 and 2 its phases."),
    "SPEECHDETECTED": _told(19, 22, "Speech is detected."),
    "FSBUPDATED": _told(19, 23, "The fixed beams were updated."),
    "FSBPATHCHANGE": _told(19, 24, "The path to the fixed beams has changed."),
    "TRANSIENTONOFF": _switch(19, 29, "Suppression of transient echo"),
    "VOICEACTIVITY": _told(19, 32, "There is voice."),
    "STATNOISEONOFF_SR": _switch(19, 33, "Suppression of steady noise for speech recognition"),
    "NONSTATNOISEONOFF_SR": _switch(19, 34, "Suppression of changing noise for speech recognition"),
    "GAMMA_NS_SR": _number(19, 35, 0, 3, "Over-subtraction of steady noise for speech recognition."),
    "GAMMA_NN_SR": _number(19, 36, 0, 3, "Over-subtraction of changing noise for speech recognition."),
    "MIN_NS_SR": _number(19, 37, 0, 1, "Least gain in the suppression of steady noise for speech recognition."),
    "MIN_NN_SR": _number(19, 38, 0, 1, "Least gain in the suppression of changing noise for speech recognition."),
    "GAMMAVAD_SR": _number(19, 39, 0, 1000, "Threshold of the voice activity, a factor."),
    "DOAANGLE": _told(21, 0, "Direction of the voice, degrees.", 359),
}
"""By the maker's names."""
