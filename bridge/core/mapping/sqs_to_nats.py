"""SQS to JetStream: an SqsMessage as a JetStreamOut, the SNS envelope unwrapped. Format: docs/wire-format.md.

Total and deterministic: the same message gives the same subject, payload and Nats-Msg-Id, or Unmappable.
May not: drop anything but the envelope's signature, which covers a text that no longer exists.
"""

from __future__ import annotations

from typing import Literal

from bridge.core.errors import Unmappable
from bridge.core.mapping.envelope import notification_of
from bridge.core.mapping.headers import base64_of, header_safe, to_headers
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import JetStreamOut, Message, SnsNotification, SqsMessage
from bridge.core.route import Mapped, Mapping

SYSTEM = {
    "SentTimestamp": "Sqs-Sent-Timestamp",
    "ApproximateReceiveCount": "Sqs-Receive-Count",
    "ApproximateFirstReceiveTimestamp": "Sqs-First-Receive-Timestamp",
    "SenderId": "Sqs-Sender-Id",
    "MessageGroupId": "Sqs-Message-Group-Id",
    "MessageDeduplicationId": "Sqs-Message-Deduplication-Id",
    "SequenceNumber": "Sqs-Sequence-Number",
    "DeadLetterQueueSourceArn": "Sqs-Dead-Letter-Queue-Source-Arn",
    "AWSTraceHeader": "X-Amzn-Trace-Id",
}
"""SQS system attributes and their headers. Timestamps stay epoch milliseconds, as SQS spells them."""


def sqs_to_nats(
    template: SubjectTemplate, *, envelope: Literal["auto", "never"] = "auto", fifo: bool = False
) -> Mapping:
    """A Mapping for one route. `fifo`: the queue is a FIFO queue, so its message groups are lanes."""

    def mapping(message: Message) -> Mapped:
        assert isinstance(message, SqsMessage)
        notification = notification_of(message) if envelope == "auto" else None
        body = message.body if notification is None else notification.message
        try:
            payload = body.encode()
        except UnicodeEncodeError:
            raise Unmappable("body", "it has half a surrogate pair and is no text in UTF-8") from None
        if notification is None:
            headers = to_headers(message.attributes)
            msg_id = f"sqs:{message.message_id}"
        else:
            headers = to_headers(notification.attributes)
            _add_notification(headers, notification)
            msg_id = f"sns:{notification.message_id}"
        headers["Sqs-Message-Id"] = message.message_id
        headers["Sqs-Queue-Arn"] = message.queue_arn
        system = message.system
        for name, header in SYSTEM.items():
            if value := system.get(name):
                headers[header] = value
        # A group id on a standard queue is a tenant (fair queues), and no promise of order.
        lane = system.get("MessageGroupId") if fifo else None
        return Mapped(JetStreamOut(template.render(message, notification), payload, msg_id, headers), lane)

    return mapping


def _add_notification(headers: dict[str, str], notification: SnsNotification) -> None:
    headers["Sns-Message-Id"] = notification.message_id
    headers["Sns-Topic-Arn"] = notification.topic_arn
    headers["Sns-Timestamp"] = notification.timestamp
    if notification.sequence_number is not None:
        headers["Sns-Sequence-Number"] = notification.sequence_number
    if notification.subject is not None:
        if header_safe(notification.subject):
            headers["Sns-Subject"] = notification.subject
        else:
            headers["Sns-Subject"] = base64_of(notification.subject)
            headers["Sns-Subject-Encoding"] = "base64"
