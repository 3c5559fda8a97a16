"""A net that steps layer by layer, and whose blobs are arrays one may write into."""
