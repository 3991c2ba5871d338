"""Small data files."""

import pytest

HEADER = "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s\n"


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Return a function that writes data/rows.csv, with a meta file beside it, and returns its path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.yaml").write_text(
        "title: t\nsource: s\nlicence: none\ntrust: A\nl2: cold\nmethod: events\nflops: causal halved\n"
        "kernels:\n  flash: {schedule: flash}\n  other: {why: unknown kernel}\n  sum: {schedule: copy}\n")

    def write(*lines, header=HEADER):
        path = tmp_path / "data" / "rows.csv"
        path.write_text(header + "".join(f"{line}\n" for line in lines))
        return path.relative_to(tmp_path)

    return write
