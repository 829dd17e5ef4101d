"""Every error AWS, its SDK or the way to it can raise, as one of ours: by closed lists of AWS's own names.

A name that is in no list is never blamed on a message: a new error holds the route or is retried, and nothing is
parked for it. May not: make a call, or know which queue or topic is meant (callers pass `doing`, `missing`, `key`).
Source: SQS, SNS and STS API references; botocore 1.43, exceptions.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from bridge.core.errors import BridgeError, Failed, LeaseLost, NotUsable, Refused, Throttled, Unavailable
from bridge.legs.aws_lean import SKEW_SECONDS, SKEWED, LeanError, Unsendable, seconds_of

CODES: Mapping[type[BridgeError], frozenset[str]] = {
    LeaseLost: frozenset({"receipthandleisinvalid", "messagenotinflight"}),
    Throttled: frozenset(
        {"requestthrottled", "throttling", "throttled", "toomanyrequests", "requestlimitexceeded", "slowdown"}
        | {"overlimit", "kmsthrottled", "kmsthrottling", "bandwidthlimitexceeded", "limitexceeded"}
    ),
    Unavailable: frozenset(
        {"internalerror", "internalfailure", "serviceunavailable", "requesttimeout", "purgequeueinprogress"}
        | {"concurrentaccess", "idpcommunicationerror"}
    ),
    # About the content or the size of one message, and nothing else: these are parked.
    Refused: frozenset(
        {"invalidmessagecontents", "batchrequesttoolong", "invalidattributename", "invalidattributevalue"}
        | {"nosuchkey", "nosuchversion", "invalidobjectstate", "entitytoolarge", "keytoolong"}
        | {"invalidparametervalue", "invalidparameter", "parametervalueinvalid", "missingparameter", "validation"}
    ),
    NotUsable: frozenset(
        {"queuedoesnotexist", "nonexistentqueue", "queuedeletedrecently", "notfound", "resourcenotfound"}
        | {"accessdenied", "authorizationerror", "invalidsecurity", "invalidclienttokenid", "signaturedoesnotmatch"}
        | {"unrecognizedclient", "expiredtoken", "expiredtradeintoken", "missingauthenticationtoken", "optinrequired"}
        | {"authfailure", "invalidtoken", "invalidaccesskeyid", "tokenrefreshrequired", "incompletesignature"}
        | {"kmsaccessdenied", "kmsdisabled", "kmsinvalidkeyusage", "kmsinvalidstate", "kmsnotfound", "kmsoptinrequired"}
        | {"invalidaddress", "unsupportedoperation", "endpointdisabled", "regiondisabled", "optedout", "verification"}
        | {"idprejectedclaim", "invalididentitytoken", "invalidauthorizationmessage", "malformedpolicydocument"}
        | {"packedpolicytoolarge", "sessiondurationescalation", "platformapplicationdisabled", "invalidclientid"}
        | {"403", "404"}  # the answer to a HEAD has no body, only its status
        | {"nosuchbucket", "allaccessdisabled", "accountproblem", "permanentredirect", "invalidbucketname"}
        | {"requesttimetooskewed", "requestexpired", "invalidsignature"}  # the clock, or the secret
        | {"jwtpayloadsizeexceeded", "outboundwebidentityfederationdisabled", "invalidaction", "notauthorized"}
    ),
    Failed: frozenset(
        # Whole-call mistakes of ours, and control-plane errors no call of ours can meet.
        {"batchentryidsnotdistinct", "emptybatchrequest", "invalidbatchentryid", "toomanyentriesinbatchrequest"}
        | {"invalididformat", "queuenameexists", "invalidstate", "filterpolicylimitexceeded", "replaylimitexceeded"}
        | {"staletag", "subscriptionlimitexceeded", "taglimitexceeded", "tagpolicy", "topiclimitexceeded", "usererror"}
    ),
}
"""Error codes and exception names of SQS, SNS and STS, lower case and without `Exception`, by what the pump does."""

STALE: frozenset[str] = frozenset(
    {"expiredtoken", "expiredtradeintoken", "invalidclienttokenid", "unrecognizedclient", "invalidtoken"}
    | {"invalidaccesskeyid", "tokenrefreshrequired", "signaturedoesnotmatch", "invalidsignature", "authfailure"}
)
"""Codes that say our credentials are not valid (any more): newer ones may be at their source."""

AMBIGUOUS: frozenset[str] = frozenset(
    {"invalidparametervalue", "invalidparameter", "parametervalueinvalid", "missingparameter", "validation"}
)
ADDRESS = re.compile(r"(queue ?url|queue ?name|topic ?arn|target ?arn|access key|credential|kms|token)", re.IGNORECASE)
"""AMBIGUOUS codes can be about any parameter of a call; those about its address are not a message's fault."""
_QUOTED = re.compile(r"""(?<!at )'[^']*'|'[^']*\.[^']*'|"[^"]*"|\([^)]*\)|message ?attributes?[./]\S*""", re.IGNORECASE)
"""What such a sentence repeats of the message: values in quotes or brackets, and names of attributes. A parameter's own
name stands bare, or as `at 'topicArn'`."""

_UNREACHABLE = (
    boto.HTTPClientError,  # connection refused, timeouts, closed connections, proxies, TLS
    boto.ConnectionError,
    boto.MetadataRetrievalError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.CapacityNotAvailableError,
    ResponseParserError,  # a proxy's page instead of AWS's answer; it is not a BotoCoreError
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)
UNREACHED = "is aws.endpoint_url right, is the network open?"
SDK_ERRORS = (
    LeanError,
    Unsendable,
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)
UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What botocore's parsers raise on an answer of an unexpected shape."""

_STATUS = re.compile(r"Received non 200 response (\d{3})")


def aws_error(error: Exception, doing: str, *, missing: str = "", key: str = "") -> BridgeError:
    """Any error of botocore, aiobotocore or aiohttp as one of ours. `missing` is the hint for what does not exist,
    `key` the KMS key of the queue or topic."""
    match error:
        case LeanError():
            text = f"{doing}: {error}"
            if _no_code(error.names, error.status):
                return _not_aws(doing, error.status)
            return coded_error(
                error.names, text, status=error.status, missing=missing, date=error.date, key=key, said=str(error)
            )
        case boto.ClientError():
            answer = error.response.get("Error") or {}
            about = error.response.get("ResponseMetadata") or {}
            status, date = int(about.get("HTTPStatusCode", 0)), seconds_of(about.get("HTTPHeaders", {}).get("date"))
            # SQS answers with legacy codes (AWS.SimpleQueueService.NonExistentQueue); the class has the modelled name.
            names = (type(error).__name__, str(answer.get("Code", "")))
            if _no_code(names[1:], status) and not doing.startswith("s3 "):
                return _not_aws(doing, status)
            text = f"{doing}: {answer.get('Message') or names[1]}"
            said = str(answer.get("Message") or "")
            return coded_error(names, text, status=status, missing=missing, date=date, key=key, said=said)
        case boto.CredentialRetrievalError():
            return _no_credentials(error, doing)
        case _ if isinstance(error, _UNREACHABLE):
            return Unavailable(f"{doing}: {_first_line(error)}", hint=UNREACHED)
        case boto.ParamValidationError():
            # Its text quotes the value, which is the message.
            return Refused(f"{doing}: botocore refuses a parameter")
        case Unsendable():
            return Refused(f"{doing}: {error}")
        case boto.NoRegionError():
            return NotUsable(
                f"{doing}: no region is set", hint="set aws.region or AWS_DEFAULT_REGION (AWS_REGION alone is not read)"
            )
        case _:
            # Everything else is about configuration and credentials: no credentials, no region, no such profile.
            hint = "check the aws section, or the environment, profile or role that gives credentials"
            return NotUsable(f"{doing}: {_first_line(error)}", hint=hint)


def unreached(error: BridgeError) -> bool:
    """Whether AWS did not answer at all, so that the next call would run into the same timeout."""
    return isinstance(error, Unavailable) and error.hint == UNREACHED


def unreadable(about: str, what: str, service: str = "SQS") -> Unavailable:
    """An answer that no AWS service gives: something else answers in AWS's place, which is an outage of the peer."""
    return Unavailable(f"{about}: not an {service} response: {what}", hint=UNREACHED)


def coded_error(
    names: tuple[str, ...],
    text: str,
    *,
    status: int = 0,
    missing: str = "",
    date: float | None = None,
    key: str = "",
    said: str = "",
) -> BridgeError:
    """The error for AWS's own names of it: exception class, error code or the code of a failed batch entry. `date` is
    AWS's clock, in seconds since the epoch; `said` AWS's own sentence."""
    for name in names:
        if (kms := _kms(name, text, key)) is not None:
            return kms
        for plain in _plain(name):
            for kind, codes in CODES.items():
                if plain not in codes:
                    continue
                if plain in AMBIGUOUS and ADDRESS.search(_QUOTED.sub("", said)):
                    return NotUsable(text, hint="check the queue or topic name and the connection's account and region")
                wrong = _clock(date) if any(each in SKEWED for each in names) else ""
                return kind(text, hint=wrong or _hint(kind, plain, missing))
    return Unavailable(text) if status >= 500 else Throttled(text) if status == 429 else Failed(text)


def stale(error: Exception) -> bool:
    """Whether the credentials themselves were refused or are missing, as opposed to their permissions."""
    match error:
        case LeanError():
            names: tuple[str, ...] = error.names
        case boto.ClientError():
            names = (type(error).__name__, str((error.response.get("Error") or {}).get("Code", "")))
        case _:
            return missing(error)
    return any(plain in STALE for name in names for plain in _plain(name))


def missing(error: Exception) -> bool:
    """Whether there were no credentials when the session was made; there may be now."""
    return isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound)


def _plain(name: str) -> tuple[str, ...]:
    """The spellings under which CODES may list it."""
    plain = name.rpartition(".")[2].lower()
    return plain, plain.removesuffix("exception"), plain.removesuffix("error")


def _kms(name: str, text: str, key: str) -> BridgeError | None:
    """All errors about the key, whatever AWS calls them: never the message's fault."""
    lower = name.lower()
    if not lower.startswith("kms"):
        return None
    if "throttl" in lower or "limitexceeded" in lower:
        return Throttled(text)
    if any(each in lower for each in ("internal", "dependencytimeout", "unavailable")):
        return Unavailable(text)
    which = f"key {key}" if key else "the KMS key of the queue or topic"
    if "disabled" in lower or "state" in lower:
        return NotUsable(text, hint=f"enable {which}: aws kms enable-key --key-id {key or 'KEY'}")
    if "notfound" in lower:
        return NotUsable(text, hint=f"{which} does not exist: restore it, or set another key on the queue or topic")
    return NotUsable(text, hint=f"allow this role kms:GenerateDataKey and kms:Decrypt on {which}")


def _no_code(names: tuple[str, ...], status: int) -> bool:
    """Whether an error has only its status as a name: AWS names all of its errors, a proxy in between does not."""
    return status < 500 and status != 429 and all(name.isdigit() or not name for name in names)


def _not_aws(doing: str, status: int) -> Unavailable:
    return Unavailable(f"{doing}: what answered is not AWS: status {status} without an error code", hint=UNREACHED)


def _no_credentials(error: boto.CredentialRetrievalError, doing: str) -> BridgeError:
    """A credentials endpoint that fails is an outage; one that refuses needs the operator."""
    text = f"{doing}: {_first_line(error)}"
    refused = _STATUS.search(text)
    if (refused and refused[1] < "500" and refused[1] != "429") or (not refused and "metadata" not in text):
        return NotUsable(text, hint="check the source of credentials: environment, profile, role or credential process")
    return Unavailable(text, hint="the credentials endpoint fails; AWS itself was not called")


def _clock(date: float | None) -> str:
    """What to do about our clock, if it is so wrong that AWS refuses our signatures. In tens of seconds, so that the
    text stays the same from call to call."""
    off = 0.0 if date is None else date - time.time()
    if abs(off) <= SKEW_SECONDS:
        return ""
    return (
        f"the clock of this machine is {abs(round(off, -1)):.0f} s {'behind' if off > 0 else 'ahead'}: let NTP set it"
    )


def _hint(kind: type[BridgeError], code: str, missing: str) -> str:
    if kind is not NotUsable:
        return ""
    if code == "invalidaddress":
        return "the queue URL does not belong to this endpoint: use its name or ARN, or the URL from GetQueueUrl"
    if "exist" in code or "notfound" in code or code in ("nosuchbucket", "404"):
        return missing
    if code in STALE:
        return "check which role runs the bridge and that its credentials are valid; new ones are read automatically"
    return "check which role runs the bridge and what its policy and the queue's allow"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
