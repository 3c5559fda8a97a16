"""Benchmarks: one file per subject, ratios of interleaved runs, results as JSON and a table."""
