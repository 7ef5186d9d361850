// The official suite, against the server whose address the environment gives.
import { writeFileSync } from "node:fs"

import { runConformanceTests } from "@durable-streams/server-conformance-tests"
import { afterAll } from "vitest"

const {
  CONFORMANCE_URL: baseUrl,
  CONFORMANCE_LONG_POLL_MS: longPollMs,
  CONFORMANCE_LATE_FILE: lateFile,
} = process.env
if (!baseUrl || !longPollMs || !lateFile) {
  throw new Error("CONFORMANCE_URL, _LONG_POLL_MS and _LATE_FILE must be set")
}

// How late its timers were at worst: its tests take them to be in time.
const TICK_MS = 20
let worstMs = 0
let lastMs = performance.now()
setInterval(() => {
  const nowMs = performance.now()
  worstMs = Math.max(worstMs, nowMs - lastMs - TICK_MS)
  lastMs = nowMs
}, TICK_MS).unref()
afterAll(() => writeFileSync(lateFile, String(worstMs / 1000)))

runConformanceTests({ baseUrl, longPollTimeoutMs: Number(longPollMs), subscriptions: true })
