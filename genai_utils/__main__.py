"""``python -m genai_utils``: see :mod:`genai_utils.cli`."""

import sys

from genai_utils.cli import main

if __name__ == "__main__":
    sys.exit(main())
