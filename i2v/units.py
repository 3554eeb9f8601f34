"""Units that everybody counts in, and how amounts are told."""

GIB = 2**30
"""Bytes in a GiB: memory and disk are told in these."""


def amount(size_bytes: int, *, up: bool = False) -> str:
    """“1.25 GiB”, or “8 MiB” where it is less than one: whole ones, for what is needed rounded `up`."""
    if size_bytes >= GIB:
        return f"{size_bytes / GIB:.2f} GiB"
    return f"{max(0, -(-size_bytes // 2**20) if up else size_bytes // 2**20)} MiB"
