"""Reads the token of the HTTP actions from its file. May not: show it, in an error or anywhere."""

from __future__ import annotations

from pathlib import Path

from bridge.core.errors import ConfigError

SHORTEST = 16
MAKE_ONE = "make one with: openssl rand -hex 32"


def read_token(file: str | Path) -> str:
    """Raises ConfigError with what is wrong, never with what is in the file."""
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {file}: not valid UTF-8") from None
    if not token:
        raise ConfigError(f"{file} is empty; {MAKE_ONE}")
    if len(token) < SHORTEST:
        raise ConfigError(f"the token in {file} is shorter than {SHORTEST} characters; {MAKE_ONE}")
    if any(not "!" <= character <= "~" for character in token):
        raise ConfigError(f"the token in {file} has spaces or characters that are not ASCII; {MAKE_ONE}")
    return token
