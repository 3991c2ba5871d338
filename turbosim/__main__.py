"""``python -m turbosim``."""

from turbosim.cli.main import main

if __name__ == "__main__":
    main()
