"""Snapshots of streams, and the bootstrap that begins with one."""
