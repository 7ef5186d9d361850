// Runs the public client for a test: a line of JSON on standard input is a command,
// {"id", "op", ...arguments}; its answer is a line {"id", "value"} or {"id", "error"}.
// Commands run side by side, as their promises do. Data travels in base64.
import { createInterface } from "node:readline"

import { DurableStream, IdempotentProducer, StaleEpochError, stream } from "@durable-streams/client"

const handles = new Map()

const pack = (bytes) => Buffer.from(bytes).toString("base64")
const unpack = (text) => new Uint8Array(Buffer.from(text, "base64"))
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// The client's producer leaves sending again to whoever uses it: these are two such users.
function senders(statuses) {
  const once = async (...request) => {
    const answer = await fetch(...request)
    statuses.push(answer.status)
    return answer
  }
  return {
    once,
    // Every request that is taken goes out twice, as if the first answer had been lost. One
    // that overtook another on its way is not taken (409); the client sends it again by itself.
    twice: async (...request) => {
      const first = await once(...request)
      if (first.status === 409) return first
      await first.arrayBuffer()
      return once(...request)
    },
    // A request whose answer did not come is sent again until one does.
    persistent: async (...request) => {
      while (true) {
        try {
          return await once(...request)
        } catch {
          statuses.push("lost")
          await pause(20)
        }
      }
    },
  }
}

// Follows a stream. A connection that is cut while a body arrives ends the client's read,
// and whoever uses it goes on from the last offset: so does this.
class Tail {
  items = []
  closed = false
  stopped = false
  failure = null

  constructor(form, options) {
    this.form = form
    this.options = options
    this.offset = options.offset
  }

  async follow() {
    const { form } = this
    const backoffOptions = { initialDelay: 20, maxDelay: 100, multiplier: 1.5 }
    this.response = await stream({ ...this.options, offset: this.offset, backoffOptions })
    const take = (items) => (batch) => {
      this.items.push(...items(batch))
      this.offset = batch.offset
      this.closed = batch.streamClosed
    }
    if (form === "json") this.response.subscribeJson(take((batch) => batch.items))
    if (form === "text") this.response.subscribeText(take((chunk) => [chunk.text]))
    if (form === "bytes") this.response.subscribeBytes(take((chunk) => [pack(chunk.data)]))
    this.response.closed
      .catch((error) => {
        if (this.stopped) return
        if (error instanceof TypeError) return this.follow()
        throw error
      })
      .catch((error) => (this.failure = error))
  }

  stop() {
    this.stopped = true
    this.response.cancel()
  }

  async until(holds) {
    while (!holds()) {
      if (this.failure !== null) throw this.failure
      await pause(5)
    }
    const { items, offset, closed } = this
    return { items, offset, closed }
  }
}

const operations = {
  async create({ handle, ...options }) {
    if (options.body !== undefined) options.body = unpack(options.body)
    const made = await DurableStream.create(options)
    handles.set(handle, made)
    return made.contentType
  },

  async connect({ handle, ...options }) {
    const found = await DurableStream.connect(options)
    handles.set(handle, found)
    return found.contentType
  },

  head: ({ url }) => DurableStream.head({ url }),
  delete: ({ url }) => DurableStream.delete({ url }),

  async append({ handle, bodies, ...options }) {
    const target = handles.get(handle)
    await Promise.all(bodies.map((body) => target.append(unpack(body), options)))
  },

  async append_stream({ handle, bodies }) {
    await handles.get(handle).appendStream(
      (async function* () {
        for (const body of bodies) yield unpack(body)
      })(),
    )
  },

  async writable({ handle, bodies }) {
    const writer = handles.get(handle).writable().getWriter()
    for (const body of bodies) await writer.write(unpack(body))
    await writer.close()
  },

  close: ({ handle, body }) =>
    handles.get(handle).close(body === undefined ? {} : { body: unpack(body) }),

  // What is there now, and where to go on from.
  async read({ form, ...options }) {
    const response = await stream({ ...options, live: false })
    const read = { json: "json", text: "text", bytes: "body" }[form]
    const data = await response[read]()
    return {
      data: form === "bytes" ? pack(data) : data,
      offset: response.offset,
      upToDate: response.upToDate,
      streamClosed: response.streamClosed,
    }
  },

  async tail({ handle, form, ...options }) {
    const tail = new Tail(form, options)
    handles.set(handle, tail)
    await tail.follow()
  },

  tailed({ handle, count }) {
    const tail = handles.get(handle)
    return tail.until(() => tail.items.length >= count)
  },

  tail_closed({ handle }) {
    const tail = handles.get(handle)
    return tail.until(() => tail.closed)
  },

  tail_stop({ handle }) {
    handles.get(handle).stop()
  },

  // ---- the idempotent producer

  producer({ handle, target, producerId, sender, ...options }) {
    const statuses = []
    const made = new IdempotentProducer(handles.get(target), producerId, {
      ...options,
      fetch: senders(statuses)[sender ?? "once"],
    })
    handles.set(handle, { producer: made, statuses })
  },

  async produce({ handle, bodies, every, pauseMs }) {
    const { producer } = handles.get(handle)
    for (const [index, body] of bodies.entries()) {
      producer.append(unpack(body))
      if (every !== undefined && (index + 1) % every === 0) await pause(pauseMs)
    }
    await producer.flush()
  },

  restart: ({ handle }) => handles.get(handle).producer.restart(),

  produced({ handle }) {
    const { producer, statuses } = handles.get(handle)
    const { epoch, nextSeq, lastSuccessfulOffset } = producer
    return { epoch, nextSeq, lastSuccessfulOffset, statuses }
  },

  producer_close: ({ handle, body }) =>
    handles.get(handle).producer.close(body === undefined ? undefined : unpack(body)),
}

function told(error) {
  const { name, code, status, message, headers } = error
  const found = { name, code, status, message, headers: headers ?? {} }
  if (error instanceof StaleEpochError) found.currentEpoch = error.currentEpoch
  return found
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...options } = JSON.parse(line)
  Promise.resolve()
    .then(() => operations[op](options))
    .then((value) => ({ id, value: value ?? null }))
    .catch((error) => ({ id, error: told(error) }))
    .then((answer) => process.stdout.write(JSON.stringify(answer) + "\n"))
}
