"""`python -m scoreode`."""

import sys

from scoreode.cli import main

sys.exit(main())
