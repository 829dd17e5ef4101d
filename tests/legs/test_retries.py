"""What is made again, and how often: the rules beside botocore's own, and the behaviour on both transports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import botocore.session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore import exceptions as boto
from botocore.retries import quota, standard
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import BridgeError, NotUsable, Throttled, Unavailable
from bridge.core.models import SnsOut, SqsOut
from bridge.core.route import Ack, Receipt, Settlement
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_lean import LeanError
from bridge.legs.retries import ATTEMPTS, CODES, LONGEST, PATIENCE, QUOTA, REPEATED, UNREPEATED, Retries, cost_of
from bridge.legs.sns import SnsDestination, Topic
from bridge.legs.sqs import SqsDestination, SqsSource
from bridge.observe.metrics import AWS_CALLS
from tests.legs.aws_world import REGION
from tests.legs.exam import until
from tests.legs.stub_sqs import Fault, Stub, all_good, messages, stub_sqs
from tests.legs.test_sqs_faults import failing, lend, queue

# -- the rules, beside botocore's

NAMES = st.sampled_from([*sorted(CODES), "AccessDenied", "OverLimit", "InternalError", "Throttled", "NobodyKnows"])
STATUS = st.sampled_from([200, 400, 403, 404, 429, 500, 501, 502, 503, 504, 505])
NETWORK = [
    boto.ConnectTimeoutError(endpoint_url="x"),
    boto.ReadTimeoutError(endpoint_url="x"),
    boto.EndpointConnectionError(endpoint_url="x"),
    boto.ConnectionClosedError(endpoint_url="x"),
    boto.ProxyConnectionError(proxy_url="x"),
    boto.SSLError(endpoint_url="x", error="y"),
    boto.HTTPClientError(error="y"),
    boto.NoCredentialsError(),
    boto.NoRegionError(),
    boto.ParamValidationError(report="x"),
    boto.MetadataRetrievalError(error_msg="x"),
]


def answered(name: str, status: int) -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": name}, "ResponseMetadata": {"HTTPStatusCode": status}}, "SendMessage")


SEND = botocore.session.get_session().get_service_model("sqs").operation_model("SendMessageBatch")


def context(attempt: int, error: Exception | None, name: str = "", status: int = 0) -> Any:
    if error is not None:
        return standard.RetryContext(attempt, SEND, caught_exception=error)
    response = type("Response", (), {"status_code": status, "headers": {}})()
    return standard.RetryContext(attempt, SEND, http_response=response, parsed_response={"Error": {"Code": name}})


@given(name=NAMES, status=STATUS, attempt=st.integers(1, 4))
def test_an_error_is_repeated_where_botocore_repeats_it(name: str, status: int, attempt: int) -> None:
    theirs = standard.StandardRetryConditions().is_retryable(context(attempt, None, name, status))
    for error in (answered(name, status), LeanError((name, "Legacy"), "", status, None)):
        assert (Retries(lambda: 0.0).again(error, attempt, 0.0) is not None) is theirs


@pytest.mark.parametrize("error", NETWORK, ids=lambda error: type(error).__name__)
def test_a_network_that_fails_is_repeated_where_botocore_repeats_it(error: Exception) -> None:
    theirs = standard.StandardRetryConditions().is_retryable(context(1, error))
    assert bool(cost_of(error)) is theirs


@given(
    steps=st.lists(st.tuples(st.sampled_from([*NETWORK[:7], answered("SlowDown", 400)]), st.booleans()), max_size=200)
)
def test_the_quota_is_spent_and_given_back_as_botocores(steps: list[tuple[Exception, bool]]) -> None:
    ours, theirs = Retries(lambda: 0.0), quota.RetryQuota()
    checker = standard.RetryQuotaChecker(theirs)
    well = type("Response", (), {"status_code": 200})()
    for error, succeeds in steps:
        asked = context(1, None if isinstance(error, boto.ClientError) else error, "SlowDown", 400)
        again = ours.again(error, 1, 0.0)
        assert checker.acquire_retry_quota(asked) is (again is not None)
        if succeeds:
            ours.succeeded(UNREPEATED if again is None else again.cost)
            checker.release_retry_quota(asked.request_context, well)
        assert ours.left == theirs.available_capacity
        assert 0 <= ours.left <= QUOTA


@given(jitter=st.floats(0, 1, exclude_max=True), attempt=st.integers(1, ATTEMPTS - 1))
def test_the_pause_is_botocores(jitter: float, attempt: int) -> None:
    theirs = standard.ExponentialBackoff(random=lambda: jitter).delay_amount(context(attempt, None, "SlowDown"))
    again = Retries(lambda: jitter).again(answered("SlowDown", 400), attempt, 0.0)
    assert again is not None
    assert again.after == pytest.approx(theirs)
    assert 0 <= again.after <= min(2 ** (attempt - 1), LONGEST)


@given(used=st.floats(0, 3 * PATIENCE), jitter=st.floats(0, 1))
def test_no_attempt_begins_once_patience_is_over(used: float, jitter: float) -> None:
    retries = Retries(lambda: jitter)
    again = retries.again(answered("SlowDown", 400), 1, used)
    if again is None:
        assert used + jitter > PATIENCE
        assert retries.left == QUOTA  # what is not repeated costs nothing
    else:
        assert used + again.after <= PATIENCE


def test_every_call_that_carries_messages_has_its_number() -> None:
    assert sorted(REPEATED.values()) == sorted(AWS_CALLS)


# -- the behaviour, on both transports


class World:
    """A connection to a stub. `repeats` are the operations it told of."""

    def __init__(self, stub: Stub, aws: AwsConnection, repeats: list[str]) -> None:
        self.stub, self.aws, self.repeats = stub, aws, repeats

    async def send(self, *bodies: str) -> Any:
        entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
        return await self.aws.call("sqs", "send_message_batch", about="q", QueueUrl="q", Entries=entries)

    def answers(self, *replies: Any) -> None:
        """To one call after the other; to all later ones the last."""
        left = list(replies)

        def reply(body: dict[str, Any]) -> Any:
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, Fault):
                raise found
            return found(body)

        self.stub.replies["SendMessageBatch"] = reply


@contextlib.asynccontextmanager
async def a_world(*, lean: bool, jitter: Callable[[], float] = lambda: 0.0) -> AsyncIterator[World]:
    repeats: list[str] = []
    async with stub_sqs() as stub:
        options = AwsOptions(region=REGION, endpoint_url=stub.url, lean=lean)
        async with AwsConnection(options, notice=repeats.append, jitter=jitter) as aws:
            yield World(stub, aws, repeats)


@pytest.fixture
async def world(lean: bool) -> AsyncIterator[World]:
    async with a_world(lean=lean) as found:
        yield found


server = pytest.mark.server
DOWN = Fault(500, "InternalFailure")


@server
@pytest.mark.parametrize(
    "fault",
    [DOWN, Fault(503, "ServiceUnavailable"), Fault(400, "RequestThrottled"), Fault(400, "ThrottlingException")],
    ids=lambda fault: fault.name,
)
async def test_a_call_that_fails_once_succeeds_with_the_same_bytes(world: World, fault: Fault) -> None:
    world.answers(fault, all_good)
    answer = await world.send("a", "b")
    assert [each["Id"] for each in answer["Successful"]] == ["0", "1"]
    first, second = world.stub.bytes
    assert first == second
    assert world.repeats == ["SendMessageBatch"]
    assert world.aws._retries.left == QUOTA


@server
@pytest.mark.parametrize(("fault", "kind"), [(DOWN, Unavailable), (Fault(400, "RequestThrottled"), Throttled)])
async def test_three_failures_are_reported(world: World, fault: Fault, kind: type[BridgeError]) -> None:
    world.answers(fault)
    with pytest.raises(kind):
        await world.send("a")
    assert len(world.stub.calls) == 3
    assert len(set(world.stub.bytes)) == 1
    assert world.aws._retries.left == QUOTA - 10
    world.answers(all_good)
    await world.send("a")
    assert world.aws._retries.left == QUOTA - 9


@server
@pytest.mark.parametrize(
    "fault",
    [Fault(403, "AccessDeniedException"), Fault(400, "QueueDoesNotExist"), Fault(400, "OverLimit"), Fault(501, "No")],
    ids=lambda fault: fault.name,
)
async def test_what_will_not_pass_is_asked_once(world: World, fault: Fault) -> None:
    world.answers(fault, all_good)
    with pytest.raises(BridgeError):
        await world.send("a")
    assert len(world.stub.calls) == 1
    assert world.repeats == []


@server
async def test_an_empty_quota_leaves_one_attempt(world: World) -> None:
    world.aws._retries.left = 4
    world.answers(DOWN, all_good)
    with pytest.raises(Unavailable):
        await world.send("a")
    assert len(world.stub.calls) == 1
    await world.send("a")  # what succeeds fills it again
    world.answers(DOWN, all_good)
    await world.send("a")
    assert len(world.stub.calls) == 4


@server
async def test_calls_that_carry_no_messages_are_made_once(world: World) -> None:
    def down(body: dict[str, Any]) -> Any:
        raise DOWN

    world.stub.replies["GetQueueAttributes"] = down
    with pytest.raises(Unavailable):
        await world.aws.call("sqs", "get_queue_attributes", about="q", QueueUrl="q", AttributeNames=["All"])
    assert len(world.stub.calls) == 1


@server
async def test_an_answer_too_late_is_not_waited_for_again_once_patience_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.aws_clients.READ_SECONDS", 0.3)
    let_go = asyncio.Event()

    async def frozen(body: dict[str, Any]) -> Any:
        await let_go.wait()
        return all_good(body)

    world.answers(frozen, all_good)
    await world.send("a")
    assert len(world.stub.calls) == 2
    monkeypatch.setattr("bridge.legs.retries.PATIENCE", 0.2)
    world.answers(frozen, all_good)
    with pytest.raises(Unavailable):
        await world.send("a")
    assert len(world.stub.calls) == 3
    let_go.set()


@server
async def test_a_connection_closed_before_the_answer_is_no_failure(lean: bool) -> None:
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        asked.append(body)
        if len(asked) > 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        options = AwsOptions(region=REGION, endpoint_url=url, lean=lean)
        async with AwsConnection(options, jitter=lambda: 0.0) as aws:
            await aws.call("sqs", "delete_message_batch", about="q", QueueUrl="q", Entries=[])
    assert len(asked) == 2
    assert asked[0] == asked[1]


@server
async def test_one_that_is_cancelled_while_it_waits_ends_at_once(lean: bool) -> None:
    waiting = asyncio.Event()

    def jitter() -> float:
        waiting.set()
        return 1.0

    async with a_world(lean=lean, jitter=jitter) as world:
        world.answers(DOWN)
        task = asyncio.create_task(world.send("a"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(world.stub.calls) == 1


@server
async def test_a_receive_made_again_polls_for_what_is_left_of_its_time(lean: bool) -> None:
    async with a_world(lean=lean, jitter=lambda: 1.0) as world:
        replies = iter([DOWN, messages("m")])

        def reply(body: dict[str, Any]) -> Any:
            if isinstance(found := next(replies), Fault):
                raise found
            return found

        world.stub.replies["ReceiveMessage"] = reply
        source = SqsSource(world.aws, queue(world.stub), wait_seconds=20)
        (delivery,) = await source.receive(1)
        assert delivery.id == "m"
        first, second = [body["WaitTimeSeconds"] for body in world.stub.named("ReceiveMessage")]
        assert 1 <= second < first == 20  # less by what the first one took, which a busy machine makes longer


@server
async def test_a_fifo_send_made_again_is_the_same_message(world: World) -> None:
    world.answers(DOWN, all_good)
    destination = SqsDestination(world.aws, queue(world.stub, fifo=True))
    (answer,) = await destination.publish([SqsOut("a", group="g", dedup_id="d")])
    assert isinstance(answer, Receipt)
    (one, two) = world.stub.named("SendMessageBatch")
    assert one == two
    assert one["Entries"][0]["MessageDeduplicationId"] == "d"


@server
async def test_an_entry_that_fails_within_a_success_is_not_repeated_here(world: World) -> None:
    world.answers(failing("1"))
    answers = await SqsDestination(world.aws, queue(world.stub)).publish([SqsOut("a"), SqsOut("b")])
    assert [type(each) for each in answers] == [Receipt, Unavailable]
    assert len(world.stub.calls) == 1


@server
async def test_an_extension_is_not_repeated_for_it_could_come_behind_a_hand_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.sqs.SHORT_LEASE", 0)
    source = SqsSource(world.aws, queue(world.stub, visibility=1.0))
    (delivery,) = await lend(source, world.stub, "a")

    def down(body: dict[str, Any]) -> Any:
        raise DOWN

    world.stub.replies["ChangeMessageVisibilityBatch"] = down
    async with asyncio.TaskGroup() as group:
        tending = group.create_task(source.tend())
        await until(lambda: len(world.stub.named("ChangeMessageVisibilityBatch")) >= 2)
        tending.cancel()
    assert world.repeats == []
    world.stub.replies["DeleteMessageBatch"] = all_good
    assert list(await source.settle([Settlement(delivery, Ack())])) == [None]


@server
async def test_a_publish_to_sns_is_made_again() -> None:
    asked: list[str] = []

    async def reply(request: web.Request) -> web.Response:
        asked.append(await request.text())
        if len(asked) == 1:
            return web.Response(status=503)
        entry = "<member><Id>0</Id><MessageId>m</MessageId></member>"
        result = f"<PublishBatchResult><Successful>{entry}</Successful></PublishBatchResult>"
        return web.Response(text=f"<PublishBatchResponse>{result}</PublishBatchResponse>", content_type="text/xml")

    app = web.Application()
    app.router.add_post("/", reply)
    repeats: list[str] = []
    async with TestServer(app) as listening:
        options = AwsOptions(region=REGION, endpoint_url=str(listening.make_url("/")))
        async with AwsConnection(options, notice=repeats.append, jitter=lambda: 0.0) as aws:
            topic = Topic("arn:aws:sns:eu-west-1:1:t.fifo", "t.fifo", True, 262_144)
            (answer,) = await SnsDestination(aws, topic).publish([SnsOut("a", group="g", dedup_id="d")])
    assert isinstance(answer, Receipt)
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert "MessageDeduplicationId=d" in asked[0]
    assert repeats == ["PublishBatch"]


# -- a clock that is wrong

OFF = 1200.0


@server
@pytest.mark.parametrize("ahead", [OFF, -OFF], ids=["behind", "ahead"])
async def test_a_wrong_clock_is_corrected_or_named(lean: bool, ahead: float) -> None:
    """The lean transport goes by AWS's clock from then on, which is no repetition: it costs neither a pause nor quota.
    botocore signs with the clock of the machine whatever it is told, and the error says what is wrong."""
    async with a_world(lean=lean) as world:
        world.stub.ahead = ahead
        world.answers(all_good)
        if lean:
            for _ in range(2):
                await world.send("a")
            assert len(world.stub.calls) == 3
        else:
            said = f"the clock of this machine is 1200 s {'behind' if ahead > 0 else 'ahead'}: let NTP set it"
            with pytest.raises(NotUsable) as raised:
                await world.send("a")
            assert raised.value.hint == said
            assert len(world.stub.calls) == 1
        assert world.repeats == []
        assert world.aws._retries.left == QUOTA


@server
async def test_a_refused_signature_with_the_right_clock_is_about_the_secret(world: World) -> None:
    world.answers(Fault(403, "SignatureDoesNotMatch"))
    with pytest.raises(NotUsable, match="check which role"):
        await world.send("a")
    assert len(world.stub.calls) == 1
