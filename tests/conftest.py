"""Settings of all tests: torch has one thread, since those of several test processes on few cores hold each other up."""

import os

import pytest

# Before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing that was kept before is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURBOSIM_CACHE_DIR", str(tmp_path_factory.mktemp("kept")))
        yield


@pytest.fixture(scope="session")
def triton_cache(tmp_path_factory):
    """Return the folder in which all processes of these tests share what Triton compiles; it is empty before."""
    folder = tmp_path_factory.getbasetemp()
    return str((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "triton")
