"""The demo's own world: servers, queues and streams, a producer and the consumers of both sides.

They verify the bridge, so they share no code with it: they use the SDKs as a team's own services would.
May not: be imported by anything but verbs/demo.py.
"""

from __future__ import annotations
