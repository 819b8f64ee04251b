"""Benchmarks: each prints contender, ours, ratio and bar, measured side by side in one run."""
