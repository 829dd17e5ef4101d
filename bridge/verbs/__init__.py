"""One file per command. Orchestration only; each is imported when its command is typed."""

from __future__ import annotations
