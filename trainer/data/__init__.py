"""Data sets at scale: fetched with checksums, listed, cut into shards, streamed."""
