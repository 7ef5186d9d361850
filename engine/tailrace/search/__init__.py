"""The inverted index: analyzer, postings, parts, BM25.

Derived data: all of it can be made again from the log, and what is damaged is.
The bytes of its files are specified in ``engine/SEARCH_FORMAT.md``.
"""

from __future__ import annotations
