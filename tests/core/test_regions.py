"""Where a queue is, as its ARN or URL says, and where neither does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.regions import arn_place, beside, is_aws_url, name_of, partition_of, queue_place

PLACES = {
    "arn:aws:sqs:eu-west-1:123456789012:orders": ("eu-west-1", "123456789012"),
    "arn:aws-cn:sqs:cn-north-1:123456789012:orders.fifo": ("cn-north-1", "123456789012"),
    "https://sqs.us-west-2.amazonaws.com/123456789012/orders": ("us-west-2", "123456789012"),
    "https://us-west-2.queue.amazonaws.com/123456789012/orders": ("us-west-2", "123456789012"),
    "https://queue.amazonaws.com/123456789012/orders": ("us-east-1", "123456789012"),
    "https://sqs-fips.us-gov-east-1.amazonaws.com/123456789012/orders": ("us-gov-east-1", "123456789012"),
    "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/orders": ("cn-north-1", "123456789012"),
    "https://sqs.ap-southeast-2.api.aws/123456789012/orders/": ("ap-southeast-2", "123456789012"),
    "https://vpce-0a-b.sqs.eu-central-1.vpce.amazonaws.com/123456789012/orders": ("eu-central-1", "123456789012"),
    "http://127.0.0.1:4566/000000000000/orders": None,
    "http://sqs.eu-west-1.localhost.localstack.cloud:4566/000000000000/orders": None,
    "https://sqs.eu-west-1.amazonaws.com.example.org/123456789012/orders": None,
    "http://[/x": None,
    "orders": None,
}


@pytest.mark.parametrize(("text", "place"), PLACES.items(), ids=list(PLACES))
def test_the_region_and_account_of_a_queue(text: str, place: tuple[str, str] | None) -> None:
    assert queue_place(text) == place
    assert is_aws_url(text) is (text.startswith("https") and place is not None)


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("cn-northwest-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("elasticmq", None),
        ("", None),
    ],
)
def test_the_partition_of_a_region(region: str, partition: str | None) -> None:
    assert partition_of(region) == partition


@given(st.text())
def test_any_text_is_somewhere_or_nowhere(text: str) -> None:
    assert name_of(text) is not None
    for read in (queue_place, arn_place, partition_of, is_aws_url):
        read(text)


def test_subscribers_of_a_topic_in_other_regions_are_not_taken_for_its_neighbours() -> None:
    near = ["arn:aws:sqs:eu-west-1:123456789012:a", "arn:aws:sqs:eu-west-1:999999999999:b"]
    far = ["arn:aws:sqs:us-west-2:123456789012:a", "arn:aws-cn:sqs:eu-west-1:123456789012:a", "a", ""]
    assert beside("arn:aws:sns:eu-west-1:123456789012:t", [*far, *near]) == near
    assert beside("t", near) == []
