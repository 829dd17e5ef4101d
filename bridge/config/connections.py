"""How to reach NATS and AWS: the keys of `nats`, `aws` and `connections`.

May not: read a file or the environment (load.py does), or compare one key with another (rules.py does).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from bridge.config import grammar
from bridge.config.grammar import masked


class Section(BaseModel):
    """A part of the file: unknown keys are refused, nothing changes after loading, values stay out of errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TlsConfig(Section):
    """TLS towards NATS."""

    ca_file: str | None = Field(None, description="Certificates to trust, PEM; the system's own when left out.")
    cert_file: str | None = Field(None, description="Our certificate, PEM, for mutual TLS.")
    key_file: str | None = Field(None, description="The key of cert_file, PEM.")
    required: bool = Field(False, description="Refuse a server that offers no TLS, before credentials are sent.")
    first: bool = Field(
        False, description="Begin with the TLS handshake, for servers with handshake_first; implies required."
    )


class NatsConfig(Section):
    """How to reach NATS. At most one of credentials_file, nkey_seed_file, user, token."""

    servers: Annotated[
        list[Annotated[str, grammar.said(grammar.server_url)]],
        BeforeValidator(grammar.listed),
        Field(min_length=1, description="URLs, nats:// tls:// ws:// or wss://; comma-separated in a variable."),
    ] = ["nats://127.0.0.1:4222"]
    credentials_file: str | None = Field(None, description="A .creds file: user JWT and seed.")
    nkey_seed_file: str | None = Field(None, description="A file with an nkey seed.")
    user: str | None = Field(None, description="User name; needs password or password_file.")
    password: SecretStr | None = Field(None, description="Password of user. Better: password_file.")
    password_file: str | None = Field(None, description="A file with the password; read once, at start.")
    token: SecretStr | None = Field(None, description="Token. Better: token_file.")
    token_file: str | None = Field(None, description="A file with the token; read once, at start.")
    tls: TlsConfig | None = Field(None, description="TLS.")
    domain: str | None = Field(None, description="JetStream domain, for leaf nodes.")
    api_prefix: Annotated[str, grammar.said(grammar.api_prefix)] | None = Field(
        None,
        description="Prefix of the JetStream API in place of $JS.API, where an account imports it. Not with domain.",
    )
    max_payload: int | None = Field(
        None,
        ge=1024,
        description="The smallest max_payload, in bytes, of the servers on the way to the stream, where one beyond a "
        "leaf node has less than the one the bridge connects to. Larger messages would cut the link.",
    )
    inbox_prefix: str = Field("_INBOX", description="Prefix of reply subjects, where permissions require one.")
    connect_timeout: float = Field(5.0, ge=0.1, le=120, description="Seconds to connect, over all servers.")

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            yield name, [masked(str(server)) for server in value] if name == "servers" else value


class AwsConfig(Section):
    """How to reach AWS. What is left out comes from the standard AWS chain; access keys never go into this file."""

    region: str | None = Field(None, description="Region, like eu-west-1.")
    endpoint_url: Annotated[str, grammar.said(grammar.http_url)] | None = Field(
        None, description="For emulators and private endpoints."
    )
    transport: Literal["lean", "botocore"] = Field(
        "lean",
        description="lean: SQS receives, sends and deletes bypass botocore, at a fraction of its cost. "
        "Both retry calls by the same rules.",
    )
    s3_endpoint_url: Annotated[str, grammar.said(grammar.http_url)] | None = Field(
        None, description="The same, for S3 (claim checks)."
    )
    profile: str | None = Field(None, description="A profile of the shared AWS configuration.")
    role_arn: Annotated[str, grammar.said(grammar.role_arn)] | None = Field(
        None, description="A role to assume; its credentials are renewed automatically."
    )
    external_id: str | None = Field(
        None, min_length=2, max_length=1224, description="The external id role_arn requires."
    )


class NatsConnectionConfig(NatsConfig):
    """One more NATS connection."""

    kind: Literal["nats"] = Field(description="nats")


class AwsConnectionConfig(AwsConfig):
    """One more AWS account or region."""

    kind: Literal["aws"] = Field(description="aws")
