"""Units that everybody counts in."""

GIB = 2**30
"""Bytes in a GiB: memory and disk are told in these."""
