"""Values in another unit than their column's are refused, with the unit that they are in; a run must compare something."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.errors import ConfigError
from turbosim.hw import load_gpu
from turbosim.validation.plausible import LEAST_KERNEL, implausible
from turbosim.validation.predict import check_compared, predict
from turbosim.validation.roofline import least_seconds, roofline_seconds
from turbosim.validation.row import TIMES, UNITS, Protocol, Row
from turbosim.validation.sets import load_file
from turbosim.workload import Attention, CopyBytes, Gemm, Phase

GPU = load_gpu("l4")
WORKS = [Attention(8, 32, 32, 4096, 4096, 64, True, Phase.PREFILL), Attention(16, 32, 8, 1, 32768, 128, False, Phase.DECODE),
         Gemm(8192, 8192, 4096), CopyBytes(2**28)]
PAIRS = [(meant, column) for units in UNITS for meant in units for column in units if meant != column]


def row_of(work, value, unit):
    stream = (work.nbytes, work.nbytes) if isinstance(work, CopyBytes) else (0, 0)
    for units in UNITS:
        if unit in units:
            time = value * units[unit] if units is TIMES else (work.flops or sum(stream)) / (value * units[unit])
    return Row("data.csv:2", "data", "l4", "flash", work, time, Protocol(), stream=stream, column="value", unit=unit)


def value_of(work, seconds, unit):
    """Return what a column in *unit* has for a kernel that takes *seconds*."""
    for units in UNITS:
        if unit in units:
            return seconds / units[unit] if units is TIMES else (work.flops or 2 * work.nbytes) / seconds / units[unit]
    raise AssertionError(unit)


@pytest.mark.parametrize(("meant", "column"), PAIRS)
@pytest.mark.parametrize("work", WORKS, ids=lambda w: type(w).__name__)
@given(slower=st.floats(1.05, 15))
def test_a_mix_up_of_units_names_both(work, meant, column, slower):
    if work.flops == 0 and "FLOP/s" in meant:
        return
    seconds = slower * roofline_seconds(GPU, row_of(work, 1.0, "s"))
    row = row_of(work, value_of(work, seconds, meant), column)
    with pytest.raises(ConfigError, match=re.escape(f"are the values in {meant}, not in {column}? All rows of the file are then")):
        implausible(GPU, row)


@pytest.mark.parametrize("unit", [unit for units in UNITS for unit in units])
@given(slower=st.floats(1.3, 250), work=st.sampled_from(WORKS[:3]))
def test_values_in_the_unit_of_their_column_are_accepted(unit, slower, work):
    if "B/s" in unit:
        work = WORKS[3]
    seconds = slower * roofline_seconds(GPU, row_of(work, 1.0, "s"))
    assert implausible(GPU, row_of(work, value_of(work, seconds, unit), unit)) == ""


@pytest.mark.parametrize(("meant", "column"), [("us", "s"), ("us", "ms"), ("ns", "us"), ("ms", "s")])
@given(seconds=st.floats(LEAST_KERNEL, 15e-6))
def test_short_kernels_too(meant, column, seconds):
    row = row_of(CopyBytes(4096), seconds / TIMES[meant], column)
    # Up to 1.5 ms a kernel may take however little it does.
    if row.time_s > 1.5e-3:
        with pytest.raises(ConfigError, match=f"are the values in {meant}, not in {column}"):
            implausible(GPU, row)


def test_a_value_that_no_unit_explains():
    row = row_of(WORKS[2], 1e12, "s")
    with pytest.raises(ConfigError, match=re.escape(
            f"data.csv:2: column value: 1e+12 s is {1e12 / roofline_seconds(GPU, row):,.0f} times what l4 needs for 8192x8192x4096; "
            "correct the value, in s, or the shape")):
        implausible(GPU, row)


@pytest.mark.parametrize(("header", "cell", "hint"), [
    ("time_s", "9000", r"column time_s: 9e\+03 s is .* are the values in us, not in s"),
    ("time_s", "9", "column time_s: 9 s is .* are the values in ms, not in s"),
    ("tflops", "61000", "column tflops: .* are the values in GFLOP/s, not in TFLOP/s"),
    ("tflops", "6.1e13", "column tflops: .* are the values in FLOP/s, not in TFLOP/s")])
def test_columns_of_the_tidy_layout(table, header, cell, hint):
    path = table(f"l4,flash,prefill,8,32,32,4096,4096,64,true,{cell}",
                 header=f"gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,{header}\n")
    with pytest.raises(ConfigError, match=rf"^data/rows\.csv:2: {hint}\?"):
        predict([load_file(path)])


def test_a_run_that_compares_nothing_is_an_error(table):
    above = "l4,flash,prefill,8,32,32,4096,4096,64,true,{}"
    data = load_file(table(above.format("1e-3"), above.format("1.1e-3")))
    least = least_seconds(GPU, data.rows[0])
    for rungs, named in ((["roofline", "tile"], "tile"), (["roofline"], "roofline")):
        with pytest.raises(ConfigError, match=re.escape(
                f"{named}: no row could be predicted: 2 of 2 rows cannot have been measured, the first at data/rows.csv:2: 1 ms is "
                f"{least / 1e-3:.2f} times as fast as the peak of l4 allows; check GPU, shapes and values")):
            check_compared(predict([data], rungs), rungs)
    other = load_file(table("l4,other,prefill,1,4,4,256,256,64,true,2e-5"))
    check_compared(predict([other], ["roofline"]), ["roofline"])
    with pytest.raises(ConfigError, match=r"^tile: no row could be predicted: data/rows\.csv:2: other: unknown kernel$"):
        check_compared(predict([other]), ["roofline", "tile"])
    good = load_file(table("l4,flash,prefill,1,4,4,256,256,64,true,2e-5", above.format("1e-3")))
    check_compared(predict([good]), ["roofline", "tile"])


@given(seconds=st.floats(2e-6, 50e-6), heads=st.sampled_from([1, 8, 32]), tokens=st.sampled_from([16, 64, 128, 256]))
def test_milliseconds_of_small_attention_in_a_column_of_seconds(seconds, heads, tokens):
    row = row_of(Attention(1, heads, heads, tokens, tokens, 64, False, Phase.PREFILL), seconds / TIMES["ms"], "s")
    if seconds > least_seconds(GPU, row) and seconds > roofline_seconds(GPU, row):
        with pytest.raises(ConfigError, match=r"are the values in (ms|us), not in s"):
            implausible(GPU, row)


@pytest.mark.parametrize(("cell", "message"), [
    ("1410", "must be an SM clock in Hz, 100 MHz to 5 GHz, got 1410; is it in MHz? Then write 1.41e+09"),
    ("1.41", "must be an SM clock in Hz, 100 MHz to 5 GHz, got 1.41; is it in GHz? Then write 1.41e+09"),
    ("1410000", "must be an SM clock in Hz, 100 MHz to 5 GHz, got 1.41e+06; is it in kHz? Then write 1.41e+09"),
    ("1.41e12", "must be an SM clock in Hz, 100 MHz to 5 GHz, got 1.41e+12; correct it")])
def test_a_clock_in_another_unit_is_refused(table, cell, message):
    path = table(f"l4,flash,prefill,1,4,4,256,256,64,true,2e-5,{cell}",
                 header="gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,sm_clock_hz\n")
    with pytest.raises(ConfigError, match=rf"^data/rows\.csv:2:45: column sm_clock_hz: {re.escape(message)}$"):
        load_file(path)
