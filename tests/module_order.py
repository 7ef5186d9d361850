"""The order of the modules: one imports only from those above it.

The engine comes first: it knows nothing of the server. Give a new module the highest place
its own imports allow, beside those it belongs to.
"""

from __future__ import annotations

from typing import Final

ORDER: Final = """
tailrace.errors
tailrace.limits
tailrace.offset
tailrace.operation
tailrace.outcome
tailrace.options
tailrace.validate
tailrace.filenames
tailrace.native
tailrace.storage
tailrace.fields
tailrace.batch
tailrace.manifest
tailrace.segment
tailrace.offset_index
tailrace.live_files
tailrace.log
tailrace.producer
tailrace.stream
tailrace.views
tailrace.catalog
tailrace.sorted_names
tailrace.expiry
tailrace.checkpoint
tailrace.snapshot_files
tailrace.reader
tailrace.ticket
tailrace.waiters

tailrace.search.analyzer
tailrace.search.document
tailrace.search.bm25
tailrace.search.query
tailrace.search.collector
tailrace.search.merge
tailrace.search.floors
tailrace.search.native_score
tailrace.search.part
tailrace.search.part_writer
tailrace.search.memory_part
tailrace.search.part_list
tailrace.search.index

tailrace.scope

tailrace.search.snippet
tailrace.search

tailrace.indexer
tailrace.recovery
tailrace.plain_append
tailrace.plan
tailrace.decide_append
tailrace.decide_create
tailrace.decide_snapshot
tailrace.decide
tailrace.commit
tailrace.snapshot
tailrace.upkeep
tailrace.core
tailrace.store
tailrace.check
tailrace.repair
tailrace

tailrace_server

tailrace_server.protocol
tailrace_server.protocol.message
tailrace_server.protocol.headers
tailrace_server.protocol.errors
tailrace_server.protocol.target
tailrace_server.protocol.timestamps
tailrace_server.protocol.json_mode
tailrace_server.protocol.event_id
tailrace_server.protocol.page_token
tailrace_server.protocol.caching
tailrace_server.protocol.cursor
tailrace_server.protocol.sse
tailrace_server.protocol.events
tailrace_server.protocol.parse
tailrace_server.protocol.render
tailrace_server.protocol.session_query
tailrace_server.protocol.loopback
tailrace_server.protocol.bucket_name
tailrace_server.protocol.stream_name
tailrace_server.protocol.stream_request
tailrace_server.protocol.stream_response
tailrace_server.protocol.multipart
tailrace_server.protocol.snapshot_message
tailrace_server.protocol.views
tailrace_server.protocol.subscription_error
tailrace_server.protocol.subscription_glob
tailrace_server.protocol.subscription_state
tailrace_server.protocol.subscription_machine
tailrace_server.protocol.subscription_url
tailrace_server.protocol.subscription_token
tailrace_server.protocol.subscription_keys
tailrace_server.protocol.subscription_request
tailrace_server.protocol.subscription_view

tailrace_server.config
tailrace_server.keys
tailrace_server.logs
tailrace_server.metrics
tailrace_server.engine_bridge
tailrace_server.live
tailrace_server.subscriptions
tailrace_server.subscriptions.journal
tailrace_server.subscriptions.live
tailrace_server.subscriptions.webhook
tailrace_server.subscriptions.delivery
tailrace_server.subscriptions.manager
tailrace_server.context
tailrace_server.operations
tailrace_server.streams
tailrace_server.streams.address
tailrace_server.streams.read
tailrace_server.streams.write
tailrace_server.snapshots
tailrace_server.snapshots.publish
tailrace_server.snapshots.read
tailrace_server.snapshots.bootstrap
tailrace_server.buckets
tailrace_server.buckets.manage
tailrace_server.buckets.retention
tailrace_server.sessions
tailrace_server.sessions.append
tailrace_server.sessions.pages
tailrace_server.sessions.search
tailrace_server.sessions.read
tailrace_server.sessions.manage
tailrace_server.subscriptions.handlers
tailrace_server.routes
tailrace_server.openapi
tailrace_server.openapi.shape
tailrace_server.openapi.paths
tailrace_server.openapi.schemas
tailrace_server.openapi.common
tailrace_server.openapi.sessions
tailrace_server.openapi.snapshots
tailrace_server.openapi.streams
tailrace_server.openapi.buckets
tailrace_server.openapi.subscriptions
tailrace_server.openapi.operation
tailrace_server.openapi.document
tailrace_server.service
tailrace_server.front
tailrace_server.body
tailrace_server.peer_watch
tailrace_server.fast
tailrace_server.fast.parser
tailrace_server.fast.writer
tailrace_server.fast.socket_body
tailrace_server.fast.connection
tailrace_server.fast.listener
tailrace_server.asgi_body
tailrace_server.asgi
tailrace_server.hypercorn_h11
tailrace_server.hypercorn_front
tailrace_server.settings
tailrace_server.run
tailrace_server.cli
tailrace_server.__main__
""".split()
