"""What `bench.nano_time` says of the processor that it times."""

import pytest

from bench.nano_time import processor

CORE = "processor\t: {number}\nmodel name\t: Some Processor @ 3 GHz\nflags\t\t: fpu {flags}\n\n"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("avx2", "has avx2; not avx512, avx512 bf16, amx bf16"),
        ("avx2 avx512f avx512_bf16 amx_bf16", "has avx2, avx512, avx512 bf16, amx bf16"),
        ("sse", "has none of these; not avx2, avx512, avx512 bf16, amx bf16"),
    ],
)
def test_the_processor_is_named_with_its_cores_and_instruction_sets(flags, told):
    cpuinfo = "".join(CORE.format(number=number, flags=flags) for number in range(2))
    assert processor(cpuinfo) == f"Some Processor @ 3 GHz, 2 cores; {told}"


def test_where_the_system_does_not_say_it_is_not_guessed():
    assert processor("") == "processor not known"
