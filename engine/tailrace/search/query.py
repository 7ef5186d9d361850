"""A query string → the terms to look for and how often each counts.

Terms are ORed. Quotes, operators and field names have no meaning: a quoted phrase is its
words. No string is an error; beyond :data:`~tailrace.limits.QUERY_BYTES_MAX` bytes or
:data:`~tailrace.limits.QUERY_TERMS_MAX` terms the rest is not looked at.
"""

from __future__ import annotations

from collections import Counter

from tailrace.limits import QUERY_BYTES_MAX, QUERY_TERMS_MAX
from tailrace.search.analyzer import analyze_query


def parse_query(query: str) -> dict[str, int]:
    """Each term and how often it stands in the query, in the order of first appearance."""
    if len(query) * 4 > QUERY_BYTES_MAX:
        cut = query.encode("utf-8", "replace")[:QUERY_BYTES_MAX]
        query = cut.decode("utf-8", "ignore")
    return dict(Counter(analyze_query(query)[:QUERY_TERMS_MAX]))
