"""`make policies`: the bridge's filter beside event-ruler, the library AWS matches events with, on as many generated
pairs of policy and message as are asked for.

What they decide otherwise is counted by its reason: SNS's own documentation says so, or event-ruler says otherwise
itself when it is asked in another way. Anything else is printed and ends with 1. Needs Java, and Maven for event-ruler.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from bridge.core.errors import ConfigError
from bridge.core.filtering import FilterPolicy, Scope
from bridge.core.models import Attribute
from tests.core import policies

HERE = Path(__file__).parent / "java"


class Pair(NamedTuple):
    policy: dict[str, Any]
    scope: Scope
    attributes: Mapping[str, Attribute]
    body: str

    def event(self) -> str:
        """The message as event-ruler is given it. SNS compares the texts of attributes as they are escaped."""
        if self.scope == "MessageBody":
            return self.body
        return (
            "{"
            + ", ".join(f"{json.dumps(k)}: {_token(v)}" for k, v in self.attributes.items() if not v.is_binary)
            + "}"
        )

    def ours(self) -> str:
        try:
            policy = FilterPolicy.parse(self.policy, self.scope)
        except ConfigError as error:
            return f"refused: {error}"
        return "yes" if policy.accepts(self.attributes, self.body.encode()) else "no"


def _token(attribute: Attribute) -> str:
    text = str(attribute.value)
    if attribute.data_type == "String.Array":
        return json.dumps(_escaped(json.loads(text)), ensure_ascii=False)
    return text if attribute.data_type.startswith("Number") else json.dumps(_escaped(text), ensure_ascii=False)


def _escaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return json.dumps(value, ensure_ascii=False)[1:-1] if isinstance(value, str) else value


def pairs(count: int, seed: int) -> Iterator[Pair]:
    random = Random(seed)
    for _ in range(count):
        nested = random.random() < 0.6
        policy = policies.policy(random, nested=nested)
        if nested:
            yield Pair(policy, "MessageBody", {}, policies.body(random, policy))
        else:
            yield Pair(policy, "MessageAttributes", policies.attributes(random, policy), "")


def answers(asked: list[Pair]) -> list[list[str]]:
    """event-ruler's, of its two ways of matching."""
    path = f"{HERE / 'target/classes'}:{HERE / 'target/lib'}/*"
    lines = "".join(f"{json.dumps(each.policy, ensure_ascii=False)}\t{each.event()}\n" for each in asked)
    run = subprocess.run(["java", "-cp", path, "Policies"], input=lines.encode(), capture_output=True, check=True)
    return [line.split("\t") for line in run.stdout.decode().splitlines()]


def apart(policy: Any) -> list[Any]:
    """The policy with one value in each of its lists, in every way: it accepts what one of them accepts."""
    choices: list[dict[str, Any]] = [{}]
    for key, found in policy.items():
        if isinstance(found, dict):
            each: list[Any] = apart(found)
        elif key == "$or":
            each = [list(chosen) for chosen in product(*map(apart, found))]
        else:
            each = [[value] for value in found]
        choices = [{**choice, key: one} for choice in choices for one in each]
    return choices


def explained(pair: Pair, ours: str, theirs: list[str]) -> str:
    """Why the two may differ; empty where they may not."""
    text = json.dumps(pair.policy, ensure_ascii=False)
    if theirs[0] != theirs[1] and ours in theirs:
        return "event-ruler's two ways of matching differ"
    if ours.startswith("refused"):
        if "keys" in ours or "combinations" in ours:
            return "SNS: five keys, 150 combinations"
        return ""
    if theirs[0].startswith("refused"):
        return ""
    if pair.scope == "MessageAttributes" and pair.event() == "{}" and ours == "no":
        return "SNS: exists: false needs at least one attribute"
    if '"exists"' in text and any(each in pair.event() for each in ("null", '""')):
        return "SNS: a key exists when its value is neither null nor empty"
    return ""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    wanted = options.parse_args()
    compiled = ["compile", "dependency:copy-dependencies", "-DoutputDirectory=target/lib"]
    subprocess.run(["mvn", "-q", "-B", "-ntp", "-f", str(HERE / "pom.xml"), *compiled], check=True)
    asked = list(pairs(wanted.pairs, wanted.seed))
    strange = []
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for pair, theirs in zip(asked, answers(asked), strict=True):
        ours = pair.ours()
        verdicts[ours.partition(":")[0]] += 1
        if ours.partition(":")[0] == theirs[0].partition(":")[0]:
            continue
        if reason := explained(pair, ours, theirs):
            reasons[reason] += 1
            continue
        strange.append((pair, ours, theirs))
    unexplained = 0
    for pair, ours, theirs in strange:
        single = [pair._replace(policy=each) for each in apart(pair.policy)]
        if not ours.startswith("refused") and any(yes == "yes" for yes, _ in answers(single)) is (ours == "yes"):
            reasons["event-ruler mixes values of one list up: asked for them one by one it agrees"] += 1
            continue
        unexplained += 1
        if unexplained <= 10:
            print(json.dumps(pair.policy, ensure_ascii=False), pair.scope, pair.event(), ours, theirs, sep="\n  ")
    print(f"{wanted.pairs} pairs, seed {wanted.seed}: {dict(verdicts)}")
    for reason, count in reasons.most_common():
        print(f"  {count} explained: {reason}")
    print(f"  {unexplained} disagreements")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
