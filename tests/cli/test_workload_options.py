"""Options that describe the workload: what they do, and what is refused because it would be ignored."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.test_cli import turbosim
from turbosim.cli.workload import WorkloadOptions
from turbosim.errors import UsageError
from turbosim.workload import Attention, Gemm, Phase

HW = ["--hw", "a100_sxm_80gb"]
LLAMA = ["--model", "llama3-8b"]


def options(**values):
    return WorkloadOptions(**values, given=frozenset(values))


@pytest.mark.parametrize(("values", "shape"), [
    ({"seq": "2k"}, Attention(1, 32, 8, 2048, 2048, 128, True, Phase.PREFILL, "llama3-8b")),
    ({"seq": "2k", "causal": False}, Attention(1, 32, 8, 2048, 2048, 128, False, Phase.PREFILL, "llama3-8b")),
    ({"seq": "8k", "seq_q": "1k"}, Attention(1, 32, 8, 1024, 8192, 128, True, Phase.PREFILL, "llama3-8b")),
    ({"seq_k": "8k", "seq_q": "1k"}, Attention(1, 32, 8, 1024, 8192, 128, True, Phase.PREFILL, "llama3-8b")),
    ({"seq": "1k", "seq_q": "2k", "causal": False},
     Attention(1, 32, 8, 2048, 1024, 128, False, Phase.PREFILL, "llama3-8b")),
    ({"seq": "8k", "phase": "decode", "batch": 3}, Attention(3, 32, 8, 1, 8192, 128, False, Phase.DECODE, "llama3-8b")),
])
def test_model_shapes(values, shape):
    assert options(model="llama3-8b", **values).build() == shape


def test_shapes_without_a_model():
    heads = {"q_heads": 8, "head_dim": 64}
    assert options(seq="1k", **heads).build() == Attention(1, 8, 8, 1024, 1024, 64, True, Phase.PREFILL)
    assert options(seq_k="8k", seq_q="256", kv_heads=2, causal=False, **heads).build() == Attention(
        1, 8, 2, 256, 8192, 64, False, Phase.PREFILL)
    assert options(kernel="gemm", m="4k", n="1k", k="64").build() == Gemm(4096, 1024, 64)


def test_no_causal_and_chunks_reach_the_simulation():
    causal, full, chunk = (
        json.loads(turbosim("simulate", *HW, *LLAMA, "--seq", "1k", *more, "--json").stdout)
        for more in ([], ["--no-causal"], ["--seq-q", "256"]))
    assert (causal["workload"]["causal"], full["workload"]["causal"]) == (True, False)
    assert full["useful_flops"] > 1.9 * causal["useful_flops"]
    assert full["time_s"] > causal["time_s"] > chunk["time_s"]
    assert (chunk["workload"]["seq_q"], chunk["workload"]["seq_k"]) == (256, 1024)


TAKES = "error: {}: kernel {!r} takes {}; drop what it does not take\n".format


@pytest.mark.parametrize("command", ["simulate", "timeline"])
@pytest.mark.parametrize(("arguments", "message"), [
    ([*LLAMA, "--seq", "1k", "--q-heads", "8", "--head-dim", "64"],
     "error: --q-heads, --head-dim: --model brings the heads; drop one or the other\n"),
    ([*LLAMA, "--seq", "1k", "--seq-k", "2k"], "error: --seq, --seq-k: both give the keys per sequence; drop one\n"),
    ([*LLAMA, "--seq", "1k", "--m", "64", "--bytes", "1 GiB"], TAKES("--m, --bytes", "flash", "an attention shape")),
    (["--kernel", "gemm", "--m", "4k", "--n", "4k", "--k", "4k", *LLAMA, "--batch", "1", "--no-causal"],
     TAKES("--model, --batch, --no-causal", "gemm", "--m, --n and --k")),
    (["--kernel", "copy", "--bytes", "1 GiB", "--seq", "1k", "--k", "2", "--causal"],
     TAKES("--seq, --causal, --k", "copy", "--bytes")),
    ([*LLAMA, "--phase", "decode", "--seq", "8k", "--seq-q", "4"],
     "error: --seq-q: decode has one query per sequence, got 4; several queries at the end of a cache are --phase "
     "prefill --seq-q 4 --seq 8k\n"),
    ([*LLAMA, "--seq", "1k", "--seq-q", "2k"],
     "error: attention: a causal call needs seq_q <= seq_k, got 2048 and 1024\n"),
    ([*LLAMA, "--seq-q", "1k"], "error: --model needs --seq, for example --seq 8k\n"),
    (["--kernel", "gemm", "--m", "4q", "--n", "1", "--k", "1"],
     "error: --m: '4q' is not a size; write for example 8192 or 8k\n"),
    (["--q-heads", "8"],
     "error: describe the attention with --model and --seq, or with --q-heads, --head-dim and --seq\n"),
])
def test_what_cannot_apply_is_refused(command, arguments, message, tmp_path):
    done = turbosim(command, *HW, *arguments, *(["-o", tmp_path / "t.json"] if command == "timeline" else []))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    assert not list(tmp_path.iterdir())


def test_a_trace_takes_no_workload(tmp_path):
    done = turbosim("simulate", *HW, "--trace", tmp_path / "x.gz", "--kernel", "turbo", *LLAMA, "--set", "bits=2",
                    "--save-trace", tmp_path / "y.gz")
    assert (done.returncode, done.stderr) == (
        2, "error: --kernel, --model, --set, --save-trace: --trace replays a saved program with its kernel and shape; "
           "drop one or the other\n")


def test_a_given_default_counts_as_given():
    with pytest.raises(UsageError, match=re.escape("--phase: kernel 'copy' takes --bytes; drop what it does")):
        options(kernel="copy", nbytes="1 MiB", phase="prefill").build()
