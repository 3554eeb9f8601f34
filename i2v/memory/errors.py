"""Telling an out-of-memory error from every other error, in all the spellings torch and the libraries under it use.

Only these errors may be answered by asking for less memory; anything else must not be taken for one.
"""

from __future__ import annotations

import errno
import re

# Each spelling with who says it. A shared-memory "out of resource" of a compiled kernel is none of these: less
# memory would not mend it.
_CARD = re.compile(
    "|".join(
        (
            r"out of memory",  # torch's allocator, CUDA, HIP, XPU, MPS; "CUDA driver error: out of memory" on Tegra
            r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory",
            r"(CUBLAS|CUSOLVER|CUSPARSE|HIPBLAS|CUDNN)_STATUS_ALLOC_FAILED",
            r"CUDNN_STATUS_\w*ALLOCATION_FAILED",  # cuDNN 9 says whose: ..._DEVICE_ALLOCATION_FAILED, ..._HOST_...
            r"CUFFT_ALLOC_FAILED",
            # The libraries cannot make their handle when the card is full and then call themselves uninitialised.
            r"(CUBLAS|CUDNN)_STATUS_NOT_INITIALIZED",
            r"Unable to find a valid cuDNN algorithm",  # every algorithm was tried, and none got its workspace
            r"NVML_SUCCESS == \w+ INTERNAL ASSERT FAILED",  # torch fails while it words its own out-of-memory error
            r"UR_RESULT_ERROR_OUT_OF_(DEVICE|HOST)_MEMORY",  # Intel
        )
    ),
    re.IGNORECASE,
)
_RAM = re.compile(r"DefaultCPUAllocator|Cannot allocate memory|HOST_ALLOCATION_FAILED|std::bad_alloc", re.IGNORECASE)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or an error it was raised from, says that the card or the computer ran out of memory."""
    return any(is_out_of_ram(one) or _is_out_of_card(one) for one in _causes(error))


def is_out_of_ram(error: BaseException | None) -> bool:
    """Whether it was the computer's memory (RAM) that ran out, and not the card's."""
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (isinstance(one, RuntimeError) and _RAM.search(str(one)) is not None)
        for one in _causes(error)
    )


def _is_out_of_card(error: BaseException) -> bool:
    # By name, so that asking never imports torch: torch.OutOfMemoryError, torch.cuda.OutOfMemoryError.
    if any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and _CARD.search(str(error)) is not None


def _causes(error: BaseException | None) -> list[BaseException]:
    """`error` and what it was raised from, in order; a chain that bites its tail ends."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain
