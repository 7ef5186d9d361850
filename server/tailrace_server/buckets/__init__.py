"""Buckets at ``/ds/{bucket}``, and what their streams have beyond the base protocol."""
