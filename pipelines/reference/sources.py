"""Where data are pulled from: `sources.yml`.

What belongs here: what each kind of source has to be told. What does not: asking it
(`pipelines/pulls`), and any secret: of those the file names the environment variable.
"""

from datetime import date
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import Basis, Identifier, Model

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def _web_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_right = False
    if not is_right or parts.username or parts.password or parts.query or parts.fragment:
        raise PydanticCustomError(
            "url",
            "expected https://host/path without user, password or query: name environment"
            " variables for secrets",
        )
    return url.rstrip("/")


def _place_of_files(url: str) -> str:
    if not url.startswith(("/", "s3://")) or any(sign in url for sign in "?#@"):
        raise PydanticCustomError(
            "url", "expected a folder as /srv/drop, or s3://bucket/prefix, without credentials"
        )
    return url.rstrip("/")


WebAddress = Annotated[str, AfterValidator(_web_address)]
Variable = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]
"""Name of an environment variable that holds a secret."""
MetricName = Annotated[str, Field(pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)]
EicCode = Annotated[str, Field(pattern="^[0-9]{2}[A-Z][A-Z0-9-]{12}[A-Z0-9]$")]
Days = Annotated[int, Field(ge=0, le=90)]


class BaseSource(Model):
    """What every source says: its name, which is the folder of its files, and how often to ask.

    Not more than `requests_per_minute` go out.
    """

    name: Identifier
    requests_per_minute: Annotated[int, Field(ge=1, le=6000)] = 60


class WindowedSource(BaseSource):
    """A source that is asked for spans of time, from the UTC day `first_day` on.

    The last `overlap_days` of what has been pulled are asked for again, for what came late.
    """

    first_day: date
    overlap_days: Days = 2


class WebSource(Model):
    """A source on the web."""

    url: WebAddress

    @property
    def has_secret(self) -> bool:
        """Whether a secret goes out with what is asked."""
        return any(
            value is not None
            for name, value in self
            if name in ("token_variable", "password_variable", "client_secret_variable")
        )

    @model_validator(mode="after")
    def _secrets_are_encrypted(self) -> "WebSource":
        others = [value for name, value in self if name == "token_url" and value is not None]
        for url in (self.url, *others):
            parts = urlsplit(url)
            if self.has_secret and parts.scheme != "https" and parts.hostname not in LOCAL_HOSTS:
                raise PydanticCustomError(
                    "plain", "found http:// with a secret, expected https://, which hides it"
                )
        return self


class PrometheusSource(WindowedSource, WebSource):
    """A Prometheus server, or one that answers as it does.

    `metrics` are asked for one by one, `step_s` apart, of the series that `match` picks, as
    `job="dcgm"`. A bearer token, or a user with a password, where it wants them.
    """

    kind: Literal["prometheus"]
    metrics: Annotated[list[MetricName], Field(min_length=1)]
    match: Annotated[str, Field(pattern="^[^{}\n]*$", max_length=1000)] = ""
    step_s: Annotated[int, Field(ge=1, le=3600)] = 60
    token_variable: Variable | None = None
    user: str | None = None
    password_variable: Variable | None = None

    @model_validator(mode="after")
    def _signs_in_one_way(self) -> "PrometheusSource":
        if (self.user is None) != (self.password_variable is None) or (
            self.user is not None and self.token_variable is not None
        ):
            raise PydanticCustomError(
                "sign_in",
                "expected token_variable, or user and password_variable, or none of them",
            )
        return self


class SlurmSource(WindowedSource):
    """Accounting that `sacct` prints, here or on a login host, which ssh has to know a key for."""

    kind: Literal["slurm"]
    host: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._@-]*$", max_length=250)] | None = (
        None
    )


class SlurmrestdSource(BaseSource, WebSource):
    """The jobs that slurmrestd knows at the moment of asking."""

    kind: Literal["slurmrestd"]
    api_version: Annotated[str, Field(pattern=r"^v\d+\.\d+\.\d+$")]
    user: str
    token_variable: Variable


class EntsoeSource(WindowedSource, WebSource):
    """Day-ahead prices (A44) and generation by type (A75) of bidding zones, by their EIC."""

    kind: Literal["entsoe"]
    url: WebAddress = "https://web-api.tp.entsoe.eu/api"
    zones: Annotated[list[EicCode], Field(min_length=1)]
    documents: Annotated[list[Literal["A44", "A75"]], Field(min_length=1)] = Field(
        default=["A44", "A75"]
    )
    token_variable: Variable


class ElectricityMapsSource(WindowedSource, WebSource):
    """Hourly carbon intensity of zones, by direct or life-cycle factors."""

    kind: Literal["electricity_maps"]
    url: WebAddress = "https://api.electricitymaps.com/v3"
    zones: Annotated[list[Identifier], Field(min_length=1)]
    basis: Basis
    token_variable: Variable


class OpenadrSource(BaseSource, WebSource):
    """All events that a VTN of OpenADR 3.1 has of programs, by their ids.

    Without `token_url` the VTN's own `/auth/token` gives the token for the client's secret.
    """

    kind: Literal["openadr"]
    programs: Annotated[list[Identifier], Field(min_length=1)]
    client_id: str
    client_secret_variable: Variable
    token_url: WebAddress | None = None
    scope: str | None = None


class FolderSource(BaseSource):
    """A folder or bucket where others drop files of one format; they are copied and stay there.

    `pattern` says which names are meant, as `*.csv`.
    """

    kind: Literal["folder"]
    url: Annotated[str, AfterValidator(_place_of_files)]
    format: Identifier
    pattern: str = "*"


Source = Annotated[
    PrometheusSource
    | SlurmSource
    | SlurmrestdSource
    | EntsoeSource
    | ElectricityMapsSource
    | OpenadrSource
    | FolderSource,
    Field(discriminator="kind"),
]


class Sources(Model):
    """All of `sources.yml`; a book without the file pulls nothing."""

    sources: list[Source] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_are_given_once(self) -> "Sources":
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise PydanticCustomError(
                    "twice",
                    "found the source {name} twice, expected each name once: rename one",
                    {"name": name},
                )
        return self
