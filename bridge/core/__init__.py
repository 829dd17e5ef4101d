"""The decisions. Pure: no asyncio, no clock, no environment, no logging, no SDK; imports nothing of ours but core."""

from __future__ import annotations
