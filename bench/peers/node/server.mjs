// The reference server, in memory or (given a directory) file-backed, on a free port.
import { DurableStreamTestServer } from "@durable-streams/server"

const server = new DurableStreamTestServer({ port: 0, dataDir: process.argv[2] })
console.log(`listening on ${await server.start()}`)
