"""`python -m firmware_bridge` is `pulsecode`, wherever the console script is not on the path."""

import sys

from firmware_bridge.cli import main

sys.exit(main())
