"""``python -m kernels.measure``."""

import sys

from kernels.measure.cli import main

if __name__ == "__main__":
    sys.exit(main())
