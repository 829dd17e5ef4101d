"""SNS signatures, with a key and a certificate of our own on loopback: the genuine pass, everything else does not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from bridge.core.errors import Refused, Unavailable, Unmappable
from bridge.core.mapping.signature import SUFFIXES, certificate_url_problem, host_of, signed
from bridge.core.models import JetStreamOut, SignedEnvelope
from bridge.core.route import Receipt
from bridge.legs.memory import MemoryDestination
from bridge.legs.signatures import BYTES, CERTIFICATES, Signatures, Verified

pytestmark = pytest.mark.server

TOPIC = "arn:aws:sns:eu-west-1:123456789012:payments"
URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ALGORITHMS: dict[str, Callable[[], hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}


def certificate(days: int = 1) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .sign(KEY, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def envelope(version: str = "2", **fields: str) -> dict[str, Any]:
    """A Notification, signed as SNS signs: the keys in byte order, a line each for key and value."""
    document = {
        "Type": "Notification",
        "MessageId": "mid",
        "TopicArn": TOPIC,
        "Message": "paid ☃",
        "Timestamp": "2026-01-01T00:00:00.000Z",
        **fields,
    }
    text = "".join(f"{name}\n{document[name]}\n" for name in sorted(document))
    signature = KEY.sign(text.encode(), padding.PKCS1v15(), ALGORITHMS[version]())
    return {
        **document,
        "SignatureVersion": version,
        "Signature": base64.b64encode(signature).decode(),
        "SigningCertURL": URL,
        "MessageAttributes": {"k": {"Type": "String", "Value": "not signed"}},
    }


@dataclass
class Host:
    """Serves whatever is in `pages` at /<name>; `asked` counts."""

    url: str = ""
    pages: dict[str, web.Response] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()

    async def answer(request: web.Request) -> web.Response:
        host.asked.append(request.path)
        await asyncio.sleep(0)
        found = host.pages[request.match_info["name"]]
        return web.Response(status=found.status, body=found.body, headers=found.headers)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    host.pages["good"] = web.Response(body=certificate())
    yield host
    await runner.cleanup()


@pytest.fixture
async def signatures() -> AsyncIterator[Signatures]:
    async with Signatures([TOPIC]) as found:
        yield found


def at(host: Host, document: dict[str, Any], page: str = "good") -> SignedEnvelope:
    return replace(signed(document), certificate_url=f"{host.url}/{page}")


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("fields", [{}, {"Subject": "Überfällig"}])
async def test_a_genuine_envelope_passes(
    host: Host, signatures: Signatures, version: str, fields: dict[str, str]
) -> None:
    assert await signatures.check(at(host, envelope(version, **fields))) is None


@pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn"])
async def test_a_forged_field_is_refused(host: Host, name: str) -> None:
    other = "arn:aws:sns:eu-west-1:123456789012:other"
    document = {**envelope(Subject="s"), name: other}
    async with Signatures([TOPIC, other]) as signatures:
        answer = await signatures.check(at(host, document))
    assert isinstance(answer, Refused)
    assert "not genuine" in str(answer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"TopicArn": "arn:aws:sns:eu-west-1:999999999999:payments"}, "not among"),
        ({"SignatureVersion": "3"}, "neither 1 nor 2"),
        ({"SignatureVersion": "1"}, "not genuine"),
        ({"Signature": base64.b64encode(b"x" * 256).decode()}, "not genuine"),
    ],
)
async def test_what_is_wrong_is_said(host: Host, signatures: Signatures, change: dict[str, str], words: str) -> None:
    answer = await signatures.check(at(host, {**envelope(), **change}))
    assert isinstance(answer, Refused)
    assert words in str(answer)


async def test_a_certificate_that_cannot_be_had_now_holds_and_a_wrong_one_refuses(
    host: Host, signatures: Signatures
) -> None:
    host.pages |= {
        "down": web.Response(status=503),
        "gone": web.Response(status=404),
        "moved": web.Response(status=302, headers={"Location": "/good"}),
        "garbage": web.Response(body=b"no certificate"),
        "large": web.Response(body=certificate() + b"\n" * BYTES),
        "old": web.Response(body=certificate(days=-1)),
    }
    kinds = {page: type(await signatures.check(at(host, envelope(), page))) for page in host.pages}
    assert kinds == {
        "good": type(None),
        "down": Unavailable,
        **dict.fromkeys(("gone", "moved", "garbage", "large", "old"), Refused),
    }
    nowhere = replace(signed(envelope()), certificate_url="http://127.0.0.1:1/x")
    assert isinstance(await signatures.check(nowhere), Unavailable)


async def test_many_at_once_fetch_a_certificate_once_and_few_are_kept(host: Host, signatures: Signatures) -> None:
    found = at(host, envelope())
    assert await asyncio.gather(*(signatures.check(found) for _ in range(20))) == [None] * 20
    assert host.asked == ["/good"]
    for number in range(CERTIFICATES):
        host.pages[f"p{number}"] = host.pages["good"]
        await signatures.check(at(host, envelope(), f"p{number}"))
    assert len(signatures._known) <= CERTIFICATES


async def test_only_the_genuine_are_published_and_the_others_have_a_reason(host: Host, signatures: Signatures) -> None:
    inner = MemoryDestination()
    good = JetStreamOut("s", b"a", "1", signed=at(host, envelope()))
    forged = JetStreamOut("s", b"b", "2", signed=at(host, {**envelope(), "Message": "x"}))
    raw = JetStreamOut("s", b"c", "3")
    answers = await Verified(inner, signatures).publish([forged, good, raw])
    assert [type(each) for each in answers] == [Refused, Receipt, Refused]
    assert inner.kept == [good]


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.evil.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.com/SimpleNotificationService-0.pem",
        "https://evil@sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem?x=1",
        "https://sns.eu-west-1.amazonaws.com/../x/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com/other.pem",
        "https://sns.s3.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.s3.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.s3-eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com.cn/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com\\.evil.com/SimpleNotificationService-0.pem",
        "https://SNS.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem\n",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem#x",
        "https://sns.eu-west-1.amazonaws.com//SimpleNotificationService-0.pem",
        "https://[",
        "",
        None,
    ],
)
def test_a_certificate_comes_from_sns_or_not_at_all(url: str | None) -> None:
    assert certificate_url_problem(url, TOPIC)
    with pytest.raises(Unmappable, match="SigningCertURL"):
        signed({**envelope(), "SigningCertURL": url})


HOSTS = {
    ("aws", "eu-west-1"): "sns.eu-west-1.amazonaws.com",
    ("aws", "ap-southeast-5"): "sns.ap-southeast-5.amazonaws.com",
    ("aws-us-gov", "us-gov-west-1"): "sns.us-gov-west-1.amazonaws.com",
    ("aws-cn", "cn-north-1"): "sns.cn-north-1.amazonaws.com.cn",
    ("aws-iso", "us-iso-east-1"): "sns.us-iso-east-1.c2s.ic.gov",
    ("aws-iso-b", "us-isob-east-1"): "sns.us-isob-east-1.sc2s.sgov.gov",
    ("aws-iso-e", "eu-isoe-west-1"): "sns.eu-isoe-west-1.cloud.adc-e.uk",
    ("aws-iso-f", "us-isof-south-1"): "sns.us-isof-south-1.csp.hci.ic.gov",
    ("aws-eusc", "eusc-de-east-1"): "sns.eusc-de-east-1.amazonaws.eu",
}


def test_each_topic_has_one_host_and_no_other_topics_is_trusted() -> None:
    for (partition, region), host in HOSTS.items():
        topic = f"arn:{partition}:sns:{region}:123456789012:t"
        assert host_of(topic) == host
        trusted = [
            each
            for each in HOSTS.values()
            if certificate_url_problem(f"https://{each}/SimpleNotificationService-0f.pem", topic) is None
        ]
        assert trusted == [host]


def test_the_partitions_are_all_that_aws_has() -> None:
    """As botocore knows them, so that a new one is noticed."""
    session = botocore.session.get_session()
    partitions = session.get_component("data_loader").load_data("partitions")["partitions"]
    assert {each["id"]: each["outputs"]["dnsSuffix"] for each in partitions} == SUFFIXES
    for each in partitions:
        for region in each["regions"]:
            if not region.endswith("-global"):
                assert host_of(f"arn:{each['id']}:sns:{region}:123456789012:t"), region


@pytest.mark.parametrize(
    "topic",
    [
        "arn:aws:sns:s3:123456789012:t",
        "arn:aws:sns:s3-eu-west-1:123456789012:t",
        "arn:aws:sns:eu-west-1.s3:123456789012:t",
        "arn:aws:sns::123456789012:t",
        "arn:evil:sns:eu-west-1:123456789012:t",
        "arn:aws:sqs:eu-west-1:123456789012:t",
    ],
)
def test_a_topic_that_is_nowhere_has_no_host(topic: str) -> None:
    assert host_of(topic) is None
    assert certificate_url_problem("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem", topic)
    with pytest.raises(Unmappable, match="SigningCertURL"):
        signed({**envelope(), "TopicArn": topic})


async def test_what_sns_spells_otherwise_is_genuine_too(host: Host, signatures: Signatures) -> None:
    document = {**envelope(), "SignatureVersion": 2, "Subject": None}
    document["SigningCertUrl"] = document.pop("SigningCertURL")
    assert await signatures.check(at(host, document)) is None


def test_what_sns_does_not_sign_is_refused_with_the_reason() -> None:
    unsigned = {name: each for name, each in envelope().items() if not name.startswith("Sign")}
    with pytest.raises(Unmappable, match="SNS does not sign messages of FIFO topics"):
        signed({**unsigned, "TopicArn": f"{TOPIC}.fifo", "SequenceNumber": "10000000000000000001"})
    with pytest.raises(Unmappable, match="FIFO"):
        signed({**envelope(), "SequenceNumber": "10000000000000000001"})  # put into a genuine one


@pytest.mark.parametrize("name", ["Message", "MessageId", "Timestamp", "Signature"])
def test_what_is_missing_is_named(name: str) -> None:
    document = envelope()
    del document[name]
    with pytest.raises(Unmappable, match=name):
        signed(document)
