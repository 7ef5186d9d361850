"""The one thing pyproject.toml cannot say: the C helpers are built by cffi."""

from __future__ import annotations

from setuptools import setup

setup(cffi_modules=["csrc/build_native.py:builder", "csrc/build_native.py:front_builder"])
