"""Whether what was heard is a sentence of the grammar: how well that fits beside what the model would write freely.

Measured with five voices (espeak-ng en-us and en-gb, flite slt, rms and awb), 1115 sentences, of which 64 were spoken, 11 of
them also after "hey spark": 372 of 375 times the right sentence was the best. Against it 171 pieces of other speech (sentences
about other things, two recordings of readers), and 125 that begin like commands ("restart the coffee machine").

    difference at least   right, accepted   other speech, accepted   like commands, accepted
    -1.2                  94.6 %            0.0 %                    1.6 %
    -1.4                  96.5 %            0.6 %                    2.4 %
    -1.6                  97.6 %            0.6 %                    2.4 %
    -1.8                  99.5 %            0.6 %                    2.4 %
    -2.0                  99.7 %            1.8 %                    4.8 %
    -2.2                  100 %             1.8 %                    5.6 %

The last column with MARGIN, the others without.
"""

from __future__ import annotations

import math

GAP = -1.8
"""Mean log-probability of the sentence less that of the free text, at the least."""
MARGIN = 0.1
"""By so much it is likelier than the next one that means something else. Of 372 right ones 1 in 20 was nearer than 0.5."""
STEEP = 3.0
"""Of the confidence: at GAP it is 0.5, at 0.9 more than that 0.94."""
WAKE = -3.5
"""Mean log-probability of a wake phrase at which its score is 0.5. Nine voices said "hey spark" and "hey prime" 63 times each,
alone and before a command: 99 % are above it. Of 25 phrases that are like them, in the same voices, 4 % are ("they spark", "hey
grime", "hey pride"); of 522 pieces of other speech none, and the nearest had -5.6."""
WAKE_STEEP = 1.5


def accept(free: float, best: float, second: float | None = None) -> bool:
    """Whether the sentence was said.

    Args:
        free: Transcript.score.
        best: Score of the first guess.
        second: Score of the first guess that would do something else (not the same in other words); None: there is none.
    """
    return best - free >= GAP and (second is None or best - second >= MARGIN)


def confidence(free: float, best: float, second: float | None = None) -> float:
    """How sure that is, 0 to 1; 0.5 and more where it is accepted, less where not."""
    fit = 1.0 / (1.0 + math.exp(-STEEP * (best - free - GAP)))
    apart = 1.0 if second is None else 1.0 / (1.0 + math.exp(-20.0 * (best - second - MARGIN)))
    return min(fit, apart)


def wake_score(likelihood: float) -> float:
    """Score of a wake phrase, 0 to 1, from the mean log-probability of its pieces."""
    return 1.0 / (1.0 + math.exp(-WAKE_STEEP * (likelihood - WAKE)))
