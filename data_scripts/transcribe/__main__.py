"""Run `python -m data_scripts.transcribe`."""

import sys

from data_scripts.transcribe.dataset import main

if __name__ == "__main__":
    sys.exit(main())
