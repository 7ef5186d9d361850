"""BM25 in Lucene's form, which ``csrc/score.c`` computes.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with
the idf that is never negative, ``ln(1 + (N - df + 0.5) / (df + 0.5))``, and without the factor
k1 + 1, which changes no order: ``idf * tf / (tf + k1 * (1 - b + b * length / average length))``.
"""

from __future__ import annotations

from typing import Final

K1: Final = 1.2
B: Final = 0.75
