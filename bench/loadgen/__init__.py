"""The load generator: many clients in one thread of C, in a process of its own.

``plan`` says what to do and what was found, ``native`` compiles and calls the C, ``process``
runs plans in a process of their own, and ``python -m bench.loadgen`` is for people.
"""
