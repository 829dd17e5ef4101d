"""One total function per pair of systems, and the grammars they share. Pure, like the rest of core."""

from __future__ import annotations
