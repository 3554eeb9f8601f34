"""Units that everybody counts in, and how amounts are told."""

GIB = 2**30
"""Bytes in a GiB: memory and disk are told in these."""


def amount(size_bytes: int) -> str:
    """“1.25 GiB”, or “8 MiB” where it is less than one."""
    return f"{size_bytes / GIB:.2f} GiB" if size_bytes >= GIB else f"{max(size_bytes, 0) / 2**20:.0f} MiB"
