"""Settings of all tests: torch has one thread, since those of several test processes on few cores hold each other up."""

import os

# Before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
