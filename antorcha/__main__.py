"""`python -m antorcha`, the same as the command `antorcha`."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
