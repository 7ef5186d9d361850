"""BM25 in Lucene's form; ``csrc/score.c`` computes the same.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with
the idf that is never negative and without the factor k1 + 1, which changes no order.
"""

from __future__ import annotations

import math
from typing import Final

K1: Final = 1.2
B: Final = 0.75


def idf(documents: int, frequency: int) -> float:
    """How much a term says that ``frequency`` of ``documents`` hold."""
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def term_score(idf_value: float, frequency: int, length: int, average_length: float) -> float:
    """What a term that stands ``frequency`` times in a document of ``length`` terms adds."""
    norm = K1 * (1 - B) + K1 * B / average_length * length
    return idf_value * (frequency / (frequency + norm))
