"""One file for each kind of UPS; found.py puts them together.

All of them: a look that fails raises DeviceError with what to do, and the next look tries anew. What cannot be a value
of the thing measured is not told: a gauge whose voltage is impossible is not believed at all (DeviceError), of a source
with many separate values the impossible one is None and named in `doubts`.
"""
