import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["suite.test.mjs"],
    // A slow machine is no failure: the suite's own bounds are the ones that count.
    testTimeout: 60_000,
    reporters: ["json"],
  },
})
