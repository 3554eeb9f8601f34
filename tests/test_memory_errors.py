"""Out-of-memory errors in all their spellings, and what must not be taken for one."""

from __future__ import annotations

import errno

import pytest
import torch

from i2v.memory.errors import is_card_lost, is_out_of_memory, is_out_of_ram

CARD = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.cuda.OutOfMemoryError(""),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("HIP out of memory. Tried to allocate 1.00 GiB"),
    RuntimeError("XPU out of memory"),
    RuntimeError("MPS backend out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1131'),
    RuntimeError("Native API failed: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
]
RAM = [
    MemoryError(),
    MemoryError("Unable to allocate 8.00 GiB for an array"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("std::bad_alloc"),
]
LOST = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    torch.AcceleratorError("the device said something new"),
    RuntimeError("HIP error: invalid device function"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]
LOST_OR_FULL = [
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("CUDA driver error: device not ready"),
]
OTHERS = [
    RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376"),
    RuntimeError("shape '[2, 3]' is invalid for input of size 5"),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("a prompt about running out of memory"),
    KeyboardInterrupt(),
    None,
]


@pytest.mark.parametrize("error", CARD, ids=str)
def test_the_card_ran_out(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_ram(error)


@pytest.mark.parametrize("error", RAM, ids=repr)
def test_the_computer_ran_out(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert is_out_of_ram(error)


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_the_card_is_lost(error: BaseException) -> None:
    assert is_card_lost(error)
    assert not is_out_of_memory(error, free_share=0.0)


@pytest.mark.parametrize("error", LOST_OR_FULL, ids=repr)
def test_what_a_full_card_says_as_well_as_a_lost_one(error: BaseException) -> None:
    assert is_card_lost(error)
    assert not is_out_of_memory(error)
    assert not is_out_of_memory(error, free_share=0.06)
    assert is_out_of_memory(error, free_share=0.04)
    assert not is_out_of_ram(error)


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_something_else_went_wrong(error: BaseException | None) -> None:
    assert not is_out_of_memory(error, free_share=0.0)
    assert not is_out_of_ram(error)
    assert not is_card_lost(error)


def test_what_torch_really_says_when_the_computer_runs_out() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_ram(caught.value)


def test_an_error_that_was_raised_from_one() -> None:
    wrapped = RuntimeError("the compiled graph failed")
    wrapped.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(wrapped)
    assert not is_out_of_ram(wrapped)


def test_errors_that_name_each_other_as_cause_are_each_looked_at_once() -> None:
    first, second = RuntimeError("one"), RuntimeError("two")
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)
