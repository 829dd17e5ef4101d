"""Amazon's own extended client for Java, 1.0 and 2, against the bridge's legs, each writing for the other, on moto.
Needs Java 17 and Maven, which fetches the libraries; not part of the tests. Run it with `make extended-client`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from bridge.core.mapping.claims import SIZE, SIZE_BEFORE, Allowed, Place
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import JetStreamMessage, JetStreamOut
from bridge.core.route import Mapped, Receipt
from bridge.embedded import MotoServer
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.claims import ClaimChecked, Kept, Room
from bridge.legs.memory import MemoryDestination
from bridge.legs.payloads import Payloads, S3Payloads, Store
from bridge.legs.sqs import Queue, SqsDestination, open_queue, sqs_message

HERE = Path(__file__).parent / "java"
TEXT = 'ä"{}\\ 𐍈'
WHOLE = (TEXT * 100_000).encode()


class Wide(MemoryDestination):
    def fits(self, out: object) -> bool:
        return True


class Java:
    """One version of the library and the little program around it."""

    def __init__(self, folder: Path, version: str) -> None:
        self.version, self.folder = version, folder / version
        jars = f"-DoutputDirectory={self.folder}"
        _run("mvn", "-q", "-B", "-f", str(HERE / f"{version}.xml"), "dependency:copy-dependencies", jars)
        self.path = os.pathsep.join([f"{self.folder}/*", str(self.folder)])
        _run("javac", "-cp", self.path, "-d", str(self.folder), str(HERE / f"{version.upper()}.java"))

    async def call(self, verb: str, *arguments: str) -> str:
        # Its standard encoding is ASCII where the locale is.
        command = ("java", "-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8", "-cp", self.path, self.version.upper())
        return await asyncio.to_thread(_run, *command, verb, *arguments)


async def to_the_bridge(aws: AwsConnection, queue: Queue, bucket: str) -> tuple[set[str], bytes]:
    """What the bridge makes of the message in the queue: its attributes as they came, and the payload."""
    answer = await aws.call(
        "sqs", "receive_message", about="q", QueueUrl=queue.url, WaitTimeSeconds=2, MessageAttributeNames=["All"]
    )
    (found,) = answer["Messages"]
    mapped = sqs_to_nats(SubjectTemplate.parse("s"))(sqs_message(found, queue))
    assert isinstance(mapped, Mapped)
    inner = Wide()
    stores: dict[Store, Payloads] = {"s3": S3Payloads(aws)}
    allowed = Allowed((Place("s3", bucket),))
    (receipt,) = await ClaimChecked(inner, stores, None, allowed=allowed, room=Room(2**24)).publish([mapped.out])
    assert isinstance(receipt, Receipt), receipt
    await aws.call("sqs", "delete_message", about="q", QueueUrl=queue.url, ReceiptHandle=found["ReceiptHandle"])
    (out,) = inner.kept
    assert isinstance(out, JetStreamOut)
    assert not any(mark in name for name in out.headers for mark in (SIZE, SIZE_BEFORE))
    return set(found["MessageAttributes"]), out.payload


async def from_the_bridge(aws: AwsConnection, queue: Queue, bucket: str, form: Literal["v1", "v2"]) -> None:
    mapped = nats_to_sqs(fifo=False)(JetStreamMessage("orders.x", WHOLE, "S", 1, 0.0))
    assert isinstance(mapped, Mapped)
    stores: dict[Store, Payloads] = {"s3": S3Payloads(aws)}
    inner, kept = SqsDestination(aws, queue), Kept("s3", bucket, "bridge/", form)
    (receipt,) = await ClaimChecked(inner, stores, kept, allowed=Allowed(), room=Room(2**24)).publish([mapped.out])
    assert isinstance(receipt, Receipt), receipt


async def main(folder: Path) -> None:
    v1, v2 = Java(folder, "v1"), Java(folder, "v2")
    with MotoServer(folder / "moto") as moto:
        options = AwsOptions(region="eu-west-1", endpoint_url=moto.url, s3_endpoint_url=moto.url)
        async with AwsConnection(options) as aws:
            where = {"LocationConstraint": "eu-west-1"}
            await aws.call("s3", "create_bucket", about="b", Bucket="payloads", CreateBucketConfiguration=where)
            await aws.call("sqs", "create_queue", about="q", QueueName="q")
            queue = await open_queue(aws, "q")
            at = (moto.url, queue.url, "payloads")
            for java, verb, mark in ((v1, "send", SIZE_BEFORE), (v2, "send", SIZE_BEFORE), (v2, "send-new", SIZE)):
                await java.call(verb, *at, TEXT)
                marks, payload = await to_the_bridge(aws, queue, "payloads")
                assert marks == {mark}, marks
                assert payload == WHOLE
                print(f"the client {java.version} ({verb}, {mark}): read by the bridge")
            forms: list[tuple[Java, Literal["v1", "v2"]]] = [(v1, "v1"), (v2, "v1"), (v2, "v2")]
            for reader, form in forms:
                await from_the_bridge(aws, queue, "payloads", form)
                digest = await reader.call("receive", *at)
                assert digest.split() == [hashlib.sha256(WHOLE).hexdigest()], digest
                print(f"the bridge, pointer_format {form}: read by the client {reader.version}")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} ...: {done.stdout[-2_000:]}{done.stderr[-4_000:]}")
    return done.stdout


if __name__ == "__main__":
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true")
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
