"""The commands quoted in advice, complete and ready for a shell: what a shell would interpret is in quotes.

May not: look anything up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bridge.core.subjects import covers

MOST_NAMED = 10


def add_stream(name: str, pattern: str) -> str:
    """How an operator would create a stream for a route."""
    return f'nats stream add {name} --subjects "{pattern}" --dupe-window 1h --defaults'


def add_subjects(stream: str, known: Sequence[str], *more: str) -> str:
    """How a stream that captures `known` would capture `more` too. `--subjects` replaces the whole list, and the server
    refuses a list in which one subject lies inside another."""
    wide = [each for each in more if not any(covers(subject, each) for subject in known)]
    kept = [subject for subject in known if not any(covers(each, subject) for each in wide)]
    return f'nats stream edit {stream} --subjects "{",".join([*kept, *wide])}"'


def connection_for(region: str) -> str:
    """How an operator would reach another AWS region."""
    return (
        f"add a connection for {region} and name it on the route: "
        f"connections: {{{region}: {{kind: aws, region: {region}}}}}, and aws: {region}"
    )


def in_words(stream: str, *more: str) -> str:
    """The same where its subjects are not known."""
    return (
        f"add {' and '.join(more)} to the subjects of {stream} (nats stream edit; --subjects replaces the whole list)"
    )


def filters(subjects: Iterable[str] | None) -> str:
    """The arguments for a consumer's filters, with a space in front; nothing without any."""
    return "".join(f' --filter "{subject}"' for subject in subjects or ())


def those_here(what: str, names: Sequence[str]) -> str:
    """What exists instead of a name that does not."""
    if not names:
        return f"there are no {what} here; is it the right server, account and domain?"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{what} here are {', '.join(names[:MOST_NAMED])}{more}"
