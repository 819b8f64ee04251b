"""Sample studies that no licence and no patient forbids: chest films drawn by this package."""

from triage.samples.write import Sample, write

__all__ = ["Sample", "write"]
