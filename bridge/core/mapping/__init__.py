"""One total function per pair of systems: every message gives a message, or Unmappable naming the field.

May not: anything core may not. The wire format it writes is described in docs/wire-format.md, version 1.
"""

from __future__ import annotations
