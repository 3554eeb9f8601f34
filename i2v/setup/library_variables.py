"""Environment variables by which people tune torch and the libraries beside it, and of which some values end a program
while it imports them or at the first use of a card.

Plain Python: nothing is installed when it is asked.
"""

from __future__ import annotations

import re

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
THREADS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_MOST_THREADS = 4096
_COMPILER = re.compile(r"TORCH_LOGS(_.*)?|TORCH_COMPILE_.*|TORCHDYNAMO_.*|(AOT|TORCH)INDUCTOR_(?!CACHE_DIR$).*")
"""How torch's compiler works and what it tells. Nothing is compiled here."""
_OURS = ("DIFFUSERS_ATTN_BACKEND", "DIFFUSERS_ATTN_CHECKS")
"""What the libraries compute with, which the app has chosen and tested itself."""

_WHOLE, _SHARE, _SWITCH = r"\d+", r"\d*\.?\d+", r"True|False"
_DIVISIONS = r"\d+|\[(\d+|>):\d+(,(\d+|>):\d+)*\]"
_ALLOCATOR_VALUES = {
    "backend": r"native|cudaMallocAsync",
    "max_split_size_mb": _WHOLE,
    "max_non_split_rounding_mb": _WHOLE,
    "large_segment_size_mb": _WHOLE,
    "garbage_collection_threshold": _SHARE,
    "per_process_memory_fraction": _SHARE,
    "roundup_power2_divisions": _DIVISIONS,
    "expandable_segments": _SWITCH,
    "release_lock_on_(cuda|hip)malloc": _SWITCH,
    "graph_capture_record_stream_reuse": _SWITCH,
    "throw_on_(cuda|hip)malloc_oom": _SWITCH,
    "pinned_use_((cuda|hip)_host_register|background_threads)": _SWITCH,
    r"pinned_[a-z_]+_(mb|threads)": _WHOLE,
}
_ALLOCATOR_ENTRY = re.compile("|".join(f"({key}):({value})" for key, value in _ALLOCATOR_VALUES.items()))


def set_aside_because(name: str, value: str) -> str:
    """Why the variable `name` with `value` is not to reach the libraries: "compiler", "library", "threads" or
    "allocator"; "" where it may."""
    if _COMPILER.fullmatch(name):
        return "compiler"
    if name in _OURS:
        return "library"
    if name in THREADS:
        return "" if all(map(_is_thread_count, value.split(","))) else "threads"
    if name in ALLOCATOR:
        entries = re.split(r",(?![^\[]*\])", value.replace(" ", ""))
        return "" if all(map(_ALLOCATOR_ENTRY.fullmatch, filter(None, entries))) else "allocator"
    return ""


def _is_thread_count(text: str) -> bool:
    return re.fullmatch(r"\s*\d{1,4}\s*", text) is not None and 1 <= int(text) <= _MOST_THREADS
