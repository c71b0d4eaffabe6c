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

from pipelines.reference.fields import Basis, Currency, Identifier, Model, text_like
from pipelines.reference.mappings import MetricName

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
Variable = Annotated[
    str,
    Field(pattern="^[A-Z][A-Z0-9_]*$"),
    text_like("the name of an environment variable, as HALL_TOKEN", "HALL_TOKEN"),
]
"""Name of an environment variable that holds a secret."""
EIC_PATTERN = "^[0-9]{2}[A-Z][A-Z0-9-]{12}[A-Z0-9]$"
EicCode = Annotated[
    str,
    Field(pattern=EIC_PATTERN),
    text_like("an EIC of 16 characters, as 10Y1001A1001A82H", "10Y1001A1001A82H"),
]
LoginHost = Annotated[
    str,
    Field(pattern="^[A-Za-z0-9][A-Za-z0-9._@-]*$", max_length=250),
    text_like("a host or user@host, as login.example.org", "login.example.org"),
]
ApiVersion = Annotated[
    str, Field(pattern=r"^v\d+\.\d+\.\d+$"), text_like("a version as v0.0.41", "v0.0.41")
]
Days = Annotated[int, Field(ge=0, le=90)]


class BaseSource(Model):
    """What every source says: its name, which is the folder of its files, and how often to ask.

    Not more than `requests_per_minute` go out.
    """

    name: Identifier
    """Short name of the source and of the folder of its files, such as hall."""
    requests_per_minute: Annotated[int, Field(ge=1, le=6000)] = 60
    """Most requests a minute; left out: 60."""


class WindowedSource(BaseSource):
    """A source that is asked for spans of time, from the UTC day `first_day` on.

    The last `overlap_days` of what has been pulled are asked for again, for what came late.
    """

    first_day: date
    """First UTC day to ask for, as 2026-10-01."""
    overlap_days: Days = 2
    """Days before the last pull that are asked for again; left out: 2."""


class WebSource(Model):
    """A source on the web."""

    url: WebAddress
    """Address without user, password or query, as https://host/path."""

    @property
    def has_secret(self) -> bool:
        """Whether a secret goes out with what is asked."""
        return any(value is not None for name, value in self if name.endswith("_variable"))

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
    """What the source is."""
    metrics: Annotated[list[MetricName], Field(min_length=1)]
    """Metrics to ask for, each by its name."""
    match: Annotated[
        str,
        Field(pattern="^[^{}\n]*$", max_length=1000),
        text_like('labels without braces, as job="dcgm"', 'job="dcgm"'),
    ] = ""
    """Labels of the series that are meant, as job="dcgm"; left out: all."""
    step_s: Annotated[int, Field(ge=1, le=3600)] = 60
    """Seconds from one sample to the next; left out: 60."""
    token_variable: Variable | None = None
    """Environment variable that holds a bearer token; left out: none is sent."""
    user: str | None = None
    """User to sign in as; left out: none."""
    password_variable: Variable | None = None
    """Environment variable that holds the user's password."""

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
    """What the source is."""
    host: LoginHost | None = None
    """Login host, or user@host, on which sacct is run by ssh; left out: on this machine."""


class SlurmrestdSource(BaseSource, WebSource):
    """The jobs that slurmrestd knows at the moment of asking."""

    kind: Literal["slurmrestd"]
    """What the source is."""
    api_version: ApiVersion
    """Version of the API, such as v0.0.41."""
    user: str
    """User that the token is of."""
    token_variable: Variable
    """Environment variable that holds the token."""


class EntsoeSource(WindowedSource, WebSource):
    """Day-ahead prices (A44) and generation by type (A75) of bidding zones, by their EIC."""

    kind: Literal["entsoe"]
    """What the source is."""
    url: WebAddress = "https://web-api.tp.entsoe.eu/api"
    """Address of the API; left out: the platform's own."""
    zones: Annotated[list[EicCode], Field(min_length=1)]
    """EIC of bidding zones, such as 10Y1001A1001A82H."""
    documents: Annotated[list[Literal["A44", "A75"]], Field(min_length=1)] = Field(
        default=["A44", "A75"]
    )
    """A44: prices. A75: generation by type. Left out: both."""
    token_variable: Variable
    """Environment variable that holds the security token."""


class ElectricityMapsSource(WindowedSource, WebSource):
    """Hourly carbon intensity of zones, by direct or life-cycle factors."""

    kind: Literal["electricity_maps"]
    """What the source is."""
    url: WebAddress = "https://api.electricitymaps.com/v3"
    """Address of the API; left out: the provider's own."""
    zones: Annotated[list[Identifier], Field(min_length=1)]
    """Zones by their names there, such as DE."""
    basis: Basis
    """Emission factors of the intensity: direct or life_cycle."""
    token_variable: Variable
    """Environment variable that holds the token."""


class WattTimeSource(WindowedSource, WebSource):
    """Average emission rates of WattTime's regions, with a user and a password for each pull."""

    kind: Literal["watttime"]
    """What the source is."""
    url: WebAddress = "https://api.watttime.org"
    """Address of the API; left out: the provider's own."""
    regions: Annotated[list[Identifier], Field(min_length=1)]
    """Regions by their names there, such as CAISO_NORTH."""
    user_variable: Variable
    """Environment variable that holds the user's name."""
    password_variable: Variable
    """Environment variable that holds the user's password."""


class CaisoSource(WindowedSource, WebSource):
    """Day-ahead prices of CAISO's nodes from OASIS.

    It refuses more than 12 requests a minute.
    """

    kind: Literal["caiso"]
    """What the source is."""
    requests_per_minute: Annotated[int, Field(ge=1, le=12)] = 10
    """Most requests a minute; left out: 10."""
    url: WebAddress = "https://oasis.caiso.com/oasisapi"
    """Address of the API; left out: CAISO's own."""
    nodes: Annotated[list[Identifier], Field(min_length=1)]
    """Nodes and hubs by their names there, such as TH_NP15_GEN-APND."""


class ErcotSource(WindowedSource, WebSource):
    """Day-ahead settlement point prices of ERCOT's public API, a file of all points a day.

    `first_day` is the first delivery day. Files are listed again by the day they were posted, and
    none is downloaded twice. ERCOT refuses more than 30 requests a minute.
    """

    kind: Literal["ercot"]
    """What the source is."""
    requests_per_minute: Annotated[int, Field(ge=1, le=30)] = 20
    """Most requests a minute; left out: 20."""
    url: WebAddress = "https://api.ercot.com/api/public-reports"
    """Address of the API; left out: ERCOT's own."""
    token_url: WebAddress = (
        "https://ercotb2c.b2clogin.com/ercotb2c.onmicrosoft.com"
        "/B2C_1_PUBAPI-ROPC-FLOW/oauth2/v2.0/token"
    )
    """Where the token comes from; left out: ERCOT's own address for that."""
    user_variable: Variable
    """Environment variable that holds the user's name."""
    password_variable: Variable
    """Environment variable that holds the user's password."""
    key_variable: Variable
    """Environment variable that holds the subscription key."""


class EcbSource(WindowedSource, WebSource):
    """The European Central Bank's reference rates of currencies against the euro.

    A day that `fx_rates.csv` has a rate of keeps that.
    """

    kind: Literal["ecb"]
    """What the source is."""
    url: WebAddress = "https://data-api.ecb.europa.eu/service"
    """Address of the API; left out: the bank's own."""
    currencies: Annotated[list[Currency], Field(min_length=1)]
    """Currencies but EUR, such as USD; that of the reporting, too, where it is not EUR."""


class OpenadrSource(BaseSource, WebSource):
    """All events that a VTN of OpenADR 3.1 has of programs, by their ids.

    Without `token_url` the VTN's own `/auth/token` gives the token for the client's secret.
    """

    kind: Literal["openadr"]
    """What the source is."""
    programs: Annotated[list[Identifier], Field(min_length=1)]
    """Ids of the programs whose events are listed."""
    client_id: str
    """Id that the client signs in with."""
    client_secret_variable: Variable
    """Environment variable that holds the client's secret."""
    token_url: WebAddress | None = None
    """Where the token comes from; left out: the VTN's own /auth/token."""
    scope: str | None = None
    """Scope of the token; left out: none is asked for."""


class FolderSource(BaseSource):
    """A folder or bucket where others drop files of one format; they are copied and stay there.

    `pattern` says which names are meant, as `*.csv`.
    """

    kind: Literal["folder"]
    """What the source is."""
    url: Annotated[str, AfterValidator(_place_of_files)]
    """Folder as /srv/drop, or s3://bucket/prefix."""
    format: Identifier
    """Landing format of the files, such as nem12."""
    pattern: str = "*"
    """Which names are meant, as "*.csv"; left out: all."""


Source = Annotated[
    PrometheusSource
    | SlurmSource
    | SlurmrestdSource
    | EntsoeSource
    | ElectricityMapsSource
    | WattTimeSource
    | CaisoSource
    | ErcotSource
    | EcbSource
    | OpenadrSource
    | FolderSource,
    Field(discriminator="kind"),
]


class Sources(Model):
    """All of `sources.yml`; a book without the file pulls nothing."""

    sources: list[Source] = Field(default_factory=list)
    """Where data are pulled from."""

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
