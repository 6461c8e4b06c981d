"""Checks that a worker's machine is fit to measure on; run by the demo's test jobs through the profile `selftest`."""

import math
import os
import time


def test_the_monotonic_clock_is_fine_enough():
    """Benchmarks of a tenth of a millisecond need a clock that resolves a microsecond."""
    assert time.get_clock_info("perf_counter").resolution <= 1e-6


def test_there_is_memory_for_the_largest_zoo_model():
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    assert pages * page >= 2 * 2**30


class TestArithmetic:
    def test_floats_round_to_even(self):
        assert [round(x) for x in (0.5, 1.5, 2.5)] == [0, 2, 2]

    def test_subnormal_numbers_are_kept(self):
        assert math.ldexp(1.0, -1074) > 0.0
