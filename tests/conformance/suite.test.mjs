// The official suite, against the server whose address the environment gives.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

const { CONFORMANCE_URL: baseUrl, CONFORMANCE_LONG_POLL_MS: longPollMs } = process.env
if (!baseUrl || !longPollMs) {
  throw new Error("CONFORMANCE_URL and CONFORMANCE_LONG_POLL_MS must be set")
}

runConformanceTests({ baseUrl, longPollTimeoutMs: Number(longPollMs), subscriptions: true })
