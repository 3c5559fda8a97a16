"""pycaffe's net, which runs layer by layer on blobs that are writable arrays."""
