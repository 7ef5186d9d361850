"""The systems that tailrace is measured beside, a module each.

One whose library is not installed is left out of a run, and the report says so.
"""
