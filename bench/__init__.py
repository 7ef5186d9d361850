"""Benchmarks of tailrace beside its peers: ``python -m bench --help``.

Every program prints the machine and the settings it ran with, interleaves the systems it
compares, and gives medians with their spread. See ``bench/README.md``.
"""
