"""Telling apart what a card says when something fails, in all the spellings of torch and the libraries under it: it
ran out of memory, or it is lost to this process.

Only the first may be answered by asking for less memory. After the second every further call fails in the same way,
until the process ends and another one begins.
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
            # cuDNN has tried every algorithm, and none got its workspace: before version 8, and since.
            r"Unable to find a valid cuDNN algorithm",
            r"(GET|FIND) was unable to find an engine to execute this computation",
            r"NVML_SUCCESS == \w+ INTERNAL ASSERT FAILED",  # torch fails while it words its own out-of-memory error
            r"UR_RESULT_ERROR_OUT_OF_(DEVICE|HOST)_MEMORY",  # Intel
        )
    ),
    re.IGNORECASE,
)
# What a full card says as well as a broken one.
_WHEN_FULL = re.compile(
    r"CUDNN_STATUS_INTERNAL_ERROR\b|CUBLAS_STATUS_EXECUTION_FAILED|CUDA driver error: device not ready", re.IGNORECASE
)
FULL_SHARE = 0.05
"""Under this share of a card's memory free, an error that may have either cause is one of memory."""
_LOST = re.compile(
    "|".join(
        (
            r"\b(CUDA|HIP)( driver)? error:",
            r"(CUDNN|CUBLAS|HIPBLAS|MIOPEN)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)",
        )
    )
)
_RAM = re.compile(r"DefaultCPUAllocator|Cannot allocate memory|HOST_ALLOCATION_FAILED|std::bad_alloc", re.IGNORECASE)


def first_line(error: BaseException) -> str:
    """What `error` says, without the advice for programmers that libraries add in further lines; its type where it
    says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def named_line(error: BaseException) -> str:
    """As `first_line`, after the error's type."""
    return f"{type(error).__name__}: {first_line(error)}"


def is_out_of_memory(error: BaseException | None, free_share: float = 1.0) -> bool:
    """Whether `error`, or an error it was raised from, says that the card or the computer ran out of memory.
    `free_share` of the card's memory was free then: some errors mean a full card only if it was full."""
    full = free_share < FULL_SHARE
    return any(is_out_of_ram(one) or _is_out_of_card(one, full) for one in _causes(error))


def is_card_lost(error: BaseException | None) -> bool:
    """Whether `error`, or an error it was raised from, means that this process can use the card no more: a kernel
    failed, the driver was reset, the computer slept. To be asked of what is no out-of-memory error."""
    return any(
        # By name, as below: torch.AcceleratorError.
        any(cls.__name__ == "AcceleratorError" for cls in type(one).__mro__)
        or (isinstance(one, RuntimeError) and _LOST.search(str(one)) is not None)
        for one in _causes(error)
    )


def is_out_of_ram(error: BaseException | None) -> bool:
    """Whether it was the computer's memory (RAM) that ran out, and not the card's."""
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (isinstance(one, RuntimeError) and _RAM.search(str(one)) is not None)
        for one in _causes(error)
    )


def _is_out_of_card(error: BaseException, full: bool) -> bool:
    # By name, so that asking never imports torch: torch.OutOfMemoryError, torch.cuda.OutOfMemoryError.
    if any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return _CARD.search(str(error)) is not None or (full and _WHEN_FULL.search(str(error)) is not None)


def _causes(error: BaseException | None) -> list[BaseException]:
    """`error` and what it was raised from, in order, each once."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain
