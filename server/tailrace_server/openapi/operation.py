"""What operators ask for, described."""

from __future__ import annotations

from typing import Final

from tailrace_server import operations
from tailrace_server.openapi import common
from tailrace_server.openapi.shape import STRING, Answer, Described, Descriptions, json, named

_TAG: Final = "operation"

DESCRIBED: Final[Descriptions] = {
    operations.healthz: Described(
        _TAG, "Whether the process answers", {200: Answer("It does.", json(named("Health")))}
    ),
    operations.readyz: Described(
        _TAG,
        "Whether reads and writes are served",
        {200: Answer("They are.", json(named("Readiness")))},
    ),
    operations.metrics: Described(
        _TAG,
        "Metrics for Prometheus",
        {200: Answer("Text.", {"text/plain": STRING}), 404: common.MISSING},
    ),
    operations.openapi: Described(
        _TAG,
        "This document",
        {200: Answer("OpenAPI 3.1.", json({"type": "object"}))},
    ),
}
