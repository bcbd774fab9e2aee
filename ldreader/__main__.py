"""``python -m ldreader``: the same as the command ``ldreader``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
