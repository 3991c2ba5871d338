"""The operands of a row are those of its prediction, or there is none; an unknown type is an error."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.errors import ConfigError
from turbosim.schedules.registry import SCHEDULES
from turbosim.validation.meta import Model
from turbosim.validation.operands import HALF
from turbosim.validation.predict import jobs_of, unmodelled
from turbosim.validation.row import DTYPES, Protocol, Row
from turbosim.validation.sets import load_file
from turbosim.workload import Attention, Gemm, Phase

ATTENTION = Attention(1, 8, 8, 1024, 1024, 64, True, Phase.PREFILL)
COLUMNS = "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,dtype,time_s\n"


def row_of(work, dtype, options=()):
    return Row("data.csv:2", "data", "h100_sxm", "k", work, 1e-3, Protocol(), dtype, options=options)


@pytest.mark.parametrize("schedule", ["flash", "flash3", "kivi", "gear", "sage", "turbo"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_of_other_operands_is_not_predicted(schedule, dtype):
    row, model = row_of(ATTENTION, dtype), Model(schedule=schedule)
    allowed = {*HALF, "int8"} if schedule in ("sage", "turbo") else set(HALF)
    if dtype in allowed:
        assert unmodelled(row, model, "tile") == ""
        assert [dict(job.options) for job in jobs_of(row, model, "tile", row.gpu)] == [{}]
    else:
        assert re.fullmatch(rf"schedule {schedule} multiplies .*, and the row has {dtype}", unmodelled(row, model, "tile"))
        assert jobs_of(row, model, "tile", row.gpu) == []


@given(dtype=st.sampled_from(DTYPES), stated=st.sampled_from(["", "options", "tilings", "sweep", "row"]))
def test_a_matrix_product_takes_its_row_s_operands_unless_it_is_told(dtype, stated):
    told = {"options": {"options": {"dtype": "int4"}}, "tilings": {"tilings": [{"dtype": "int4"}]}, "sweep": {"sweep": {"dtype": ["int4"]}}}
    row = row_of(Gemm(256, 256, 256), dtype, (("dtype", "int4"),) if stated == "row" else ())
    job, = jobs_of(row, Model(schedule="gemm", **told.get(stated, {})), "tile", row.gpu)
    expected = "int4" if stated else {"fp8_e4m3": "fp8", "fp8_e5m2": "fp8"}.get(dtype, dtype)
    assert SCHEDULES["gemm"].parse_options(dict(job.options)).dtype == expected


def test_an_unknown_type_is_refused_with_its_place(table):
    line = "l4,flash,prefill,1,4,4,256,256,64,true,{},2e-5"
    with pytest.raises(ConfigError, match=re.escape(
            f"data/rows.csv:3:40: column dtype: must be one of {', '.join(DTYPES)}, got 'fp17' (did you mean 'fp16'?)")):
        load_file(table(line.format("fp16"), line.format("fp17"), header=COLUMNS))


@given(st.sampled_from(DTYPES))
def test_types_may_be_in_upper_case(dtype):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_text(f"{COLUMNS}l4,flash,prefill,1,4,4,256,256,64,true,{dtype.upper()},2e-5\n")
        assert load_file(path).rows[0].dtype == dtype
