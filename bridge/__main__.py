"""`python -m bridge` is the command `nats-sqs-bridge`."""

from __future__ import annotations

from bridge.cli import main

if __name__ == "__main__":
    main()
