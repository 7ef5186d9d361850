"""The Sessions API: streams of JSON events in the bucket ``sessions``."""
