"""The configuration tree: one TOML file, every key also as `TRIAGE__SECTION__KEY`.

Precedence: environment, then the file (`--config`, `TRIAGE_CONFIG`, `./triage.toml`), then the defaults,
which serve an embedded site on loopback.
"""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from triage.domain.policy import Policy
from triage.errors import ConfigurationError

AE_TITLE_LENGTH = 16


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _ae_title(value: str) -> str:
    text = value.strip()
    if not 0 < len(text) <= AE_TITLE_LENGTH or not text.isascii() or not text.isprintable() or "\\" in text:
        msg = "an AE title has 1 to 16 printable ASCII characters without a backslash (PS3.5 6.2)"
        raise ValueError(msg)
    return text


class Site(_Section):
    """Who we are and where our files lie."""

    name: str = "triage"
    data_dir: Path = Path("./triage-data")


class DatabaseSettings(_Section):
    """Where the tables are."""

    url: str = "sqlite:///{data_dir}/triage.db"


class Tls(_Section):
    """Certificates of the DICOM listener (PS3.15 B.9); empty means plain TCP."""

    certificate: Path | None = None
    key: Path | None = None
    #: Authorities whose client certificates are accepted; set, a client without one is refused.
    client_authorities: Path | None = None
    #: Port of the TLS listener; 0 means that the one port speaks TLS only.
    port: int = Field(default=0, ge=0, le=65535)


class ListenerSettings(_Section):
    """The C-STORE service."""

    ae_title: str = "TRIAGE"
    host: str = "127.0.0.1"
    port: int = Field(default=11112, ge=0, le=65535)
    max_associations: int = Field(default=100, ge=1, le=1000)
    max_object_mb: int = Field(default=512, ge=1, le=4096)
    check_called_ae: bool = False
    network_timeout_seconds: float = Field(default=120, gt=0)
    tls: Tls = Tls()

    _title = field_validator("ae_title")(_ae_title)


class Peer(_Section):
    """A sender that is allowed in; none listed means any sender on loopback."""

    ae_title: str = ""
    host: str = ""
    tls_only: bool = False
    max_object_mb: int = Field(default=0, ge=0)
    max_rate: float = Field(default=0, ge=0)
    #: AE@HOST:PORT of the archive that knows by C-FIND how many objects a study of this sender has.
    count_at: str = ""

    @field_validator("count_at")
    @classmethod
    def _archive(cls, value: str) -> str:
        title, at, place = value.partition("@")
        host, colon, port = place.rpartition(":")
        if value and not (at and host and colon and port.isascii() and port.isdigit()):
            msg = "an archive is written AE@HOST:PORT"
            raise ValueError(msg)
        if value and not 1 <= int(port) <= 65535:
            msg = "a port is between 1 and 65535"
            raise ValueError(msg)
        if value:
            _ae_title(title)
        return value

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            ip_network(value, strict=False)
        return value


class StudySettings(_Section):
    """When a study counts as complete."""

    quiet_seconds: float = Field(default=10, gt=0)
    complete_on: tuple[Literal["mpps", "ian", "count", "association_release", "quiet"], ...] = (
        "mpps",
        "ian",
        "count",
        "association_release",
        "quiet",
    )


class SpoolSettings(_Section):
    """The received files."""

    low_water_mb: int = Field(default=2048, ge=0)
    keep_days: float = Field(default=7, ge=0)


class ModelSettings(_Section):
    """Which model judges, and by which engine."""

    name: str = "chest"
    version: str = "latest"
    folder: Path | None = None
    engine: Literal["auto", "torch", "openvino", "cuda"] = "auto"
    max_batch: int = Field(default=8, ge=1, le=256)
    max_wait_ms: float = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0, le=256)
    minimum_age_years: float = Field(default=0, ge=0, le=120)


class PolicySettings(_Section):
    """The file of the reading policy; empty means the built-in one."""

    file: str = ""


class Destination(_Section):
    """Where results go. Only DICOM destinations are served so far."""

    name: str
    kind: Literal["dicom"] = "dicom"
    ae_title: str
    host: str
    port: int = Field(ge=1, le=65535)
    results: tuple[Literal["sr", "text_sr", "ko"], ...] = ("sr",)

    _title = field_validator("ae_title")(_ae_title)


class WebSettings(_Section):
    """The page and the API."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    viewer_url: str = ""


class SchedulerSettings(_Section):
    """The clock jobs of the list."""

    rerank_seconds: float = Field(default=30, gt=0)
    claim_idle_minutes: float = Field(default=30, gt=0)
    history_days: float = Field(default=0, ge=0)


class Mwl(_Section):
    """A modality worklist that is asked for the priorities of its orders."""

    ae_title: str
    host: str
    port: int = Field(ge=1, le=65535)
    modalities: tuple[str, ...] = ("CR", "DX")

    _title = field_validator("ae_title")(_ae_title)


class OrderSettings(_Section):
    """How orders come, besides REST."""

    hl7_host: str = "127.0.0.1"
    #: Port of HL7 v2 over MLLP; unset: not served.
    hl7_port: int | None = Field(default=None, ge=0, le=65535)
    mwl: tuple[Mwl, ...] = ()
    mwl_seconds: float = Field(default=60, ge=5)


class UpsSettings(_Section):
    """The list as workitems for reading clients on the DICOM network."""

    host: str = "127.0.0.1"
    #: Unset: not served.
    port: int | None = Field(default=None, ge=0, le=65535)
    #: AE titles that are let in; none listed means any that reaches the address.
    clients: tuple[str, ...] = ()


class _Environment(EnvSettingsSource):
    """The variables; a list or section that is no JSON goes on as it is, to be refused by its name."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return what a list or a section is written as."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class Settings(BaseSettings):
    """The whole tree, checked; made by `load`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="TRIAGE__", env_nested_delimiter="__"
    )

    site: Site = Site()
    database: DatabaseSettings = DatabaseSettings()
    listener: ListenerSettings = ListenerSettings()
    peer: tuple[Peer, ...] = ()
    study: StudySettings = StudySettings()
    spool: SpoolSettings = SpoolSettings()
    model: ModelSettings = ModelSettings()
    policy: PolicySettings = PolicySettings()
    destination: tuple[Destination, ...] = ()
    web: WebSettings = WebSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    orders: OrderSettings = OrderSettings()
    ups: UpsSettings = UpsSettings()

    @field_validator("destination")
    @classmethod
    def _each_once(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        names = [item.name for item in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            msg = f"two destinations are called '{twice}', and results are kept by that name"
            raise ValueError(msg)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which arrives as the initial values."""
        return _Environment(settings_cls), init_settings

    @property
    def data_dir(self) -> Path:
        """The folder of everything that this site keeps."""
        return self.site.data_dir

    @property
    def engines_dir(self) -> Path:
        """Where converted networks and their proofs are kept, for the service and the commands alike."""
        return self.data_dir / "engines"

    @property
    def database_url(self) -> str:
        """The database's URL with the data folder filled in."""
        return self.database.url.replace("{data_dir}", str(self.site.data_dir))


def load(path: Path | None = None) -> Settings:
    """Return the settings in force.

    Raises:
        ConfigurationError: a file that can't be read, an unknown key (named with the nearest known one) or a
            value that can't be; one sentence, before anything listens.
    """
    source = _file(path)
    raw: dict[str, Any] = {}
    if source is not None:
        try:
            raw = tomllib.loads(source.read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"The configuration {source} can't be read: {error.strerror}."
            raise ConfigurationError(msg) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"The configuration {source} is not valid TOML: {error}."
            raise ConfigurationError(msg) from None
    _check_environment()
    try:
        return Settings(**raw)
    except ValidationError as error:
        raise ConfigurationError(_sentence(error, source)) from None


def _file(path: Path | None) -> Path | None:
    if path is not None:
        return path
    named = os.environ.get("TRIAGE_CONFIG")
    if named:
        return Path(named)
    local = Path("triage.toml")
    return local if local.exists() else None


def _check_environment() -> None:
    # A misspelt section in a variable would be ignored silently otherwise.
    sections = set(Settings.model_fields)
    for variable in os.environ:
        if not variable.startswith("TRIAGE__"):
            continue
        section, *rest = variable.removeprefix("TRIAGE__").lower().split("__")
        if section not in sections or not rest:
            near = get_close_matches(section, sections, n=1)
            hint = f" Did you mean TRIAGE__{near[0].upper()}__…?" if near else ""
            msg = f"The environment variable {variable} names no setting.{hint}"
            raise ConfigurationError(msg)


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    fields: Any = Settings.model_fields
    for part in place:
        if isinstance(part, int):
            continue
        annotation = fields[part].annotation
        inner = getattr(annotation, "__args__", (annotation,))[0]
        fields = getattr(inner, "model_fields", {})
    return list(fields)


def _sentence(error: ValidationError, source: Path | None) -> str:
    first = error.errors()[0]
    place = first["loc"]
    key = ".".join(str(part) for part in place)
    variable = "__".join(["TRIAGE", *(part for part in place if isinstance(part, str))]).upper()
    where = f" in {source}" if source else ""
    if variable in (name.upper() for name in os.environ):
        where = f" in the variable {variable}"
    if first["type"] == "extra_forbidden":
        near = get_close_matches(str(place[-1]), _known_keys(place[:-1]), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else " See config/triage.toml for every key."
        return f"The setting '{key}'{where} is not known.{hint}"
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "tuple_type":
        reason = 'a list is written as JSON, such as ["a", "b"]'
    value = first["input"]
    said = f"can't be {value!r}" if isinstance(value, str | int | float) else "can't be used"
    return f"The setting '{key}'{where} {said}: {reason}."


def load_policy(settings: Settings, config: Path | None = None) -> Policy:
    """Return the policy that the settings name; a relative path is looked for beside the configuration.

    Raises:
        PolicyError: a policy that breaks a guarantee or names what does not exist.
        ConfigurationError: the file can't be read.
    """
    if not settings.policy.file:
        return Policy()
    path = Path(settings.policy.file)
    source = _file(config)
    if not path.is_absolute() and source is not None:
        path = source.parent / path
    return read_policy(path)


def read_policy(path: Path) -> Policy:
    """Return the policy of a TOML file, or raise one sentence that names the file."""
    try:
        return Policy.from_mapping(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        msg = f"The policy {path} can't be read: {error.strerror}."
        raise ConfigurationError(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"The policy {path} is not valid TOML: {error}."
        raise ConfigurationError(msg) from None
