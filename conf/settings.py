"""Settings: everything that an operator may set, with default, unit and allowed values.

A later source wins over an earlier one:

    defaults < TOML file < environment (WAREHOUSE_STORE_CHUNK_SIZE for store.chunk_size) < flags

A wrong or unknown setting stops the actor before it touches data, with one line that names the source,
the key, its value, and the allowed values.  The fields below are the only list of settings: checks, the
documentation and the sample file are generated from them.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from warehouse.conf.files import read_small
from warehouse.conf.setting_types import (
    GIB,
    KIB,
    MIB,
    TIB,
    Choice,
    Count,
    File,
    Folder,
    Host,
    OptionalHost,
    Seconds,
    SettingType,
    Size,
    Text,
    Texts,
)
from warehouse.errors import BadSetting

FILE_SIZE_MAX = 1024 * 1024
VARIABLE_PREFIX = "WAREHOUSE_"
FILE_VARIABLE = "WAREHOUSE_CONFIG"
VOLUME_SIZE_MIN = 64 * KIB
PORTS_TAKEN = 200  # from port_base on
GATEWAYS_MAX = 10  # of one machine; their ports for metrics are the last of those

_HOST = Host()
_DOMAIN = Text(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "a name of a host in small letters, without a port")
_NETWORK = Text(r"[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?", 'an address or a network, such as "10.0.0.0/8"')
_ORIGIN = Text(r"\*|https?://[A-Za-z0-9.:\[\]_-]{1,253}", '"https://host[:port]" or "*"')


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the sections; each field is annotated with its setting type and its description."""


class Cluster(Section, frozen=True, kw_only=True):
    """What `warehouse up` starts on this machine."""

    data: Annotated[Path, Folder(), "folder of all data"] = Path("warehouse-data")
    volumes: Annotated[int, Count(1, 64), "number of volume actors, each with its own folder and process"] = 1
    port_base: Annotated[
        int, Count(1024, 65535 - PORTS_TAKEN), "the first port; all other ports are derived from it"
    ] = 7400
    host: Annotated[
        str, _HOST, "address to listen on; 0.0.0.0 (or ::, with IPv6) opens the store to the network"
    ] = "127.0.0.1"


class Store(Section, frozen=True, kw_only=True):
    """How objects are kept."""

    chunk_size: Annotated[int, Size(4 * KIB, 256 * MIB), "objects larger than this are split into chunks"] = (
        80 * MIB
    )
    volume_size: Annotated[
        int,
        Size(0, 16 * TIB),
        "maximum size of a volume file, at least 64KiB; 0: 1 % of its disk, between 32GiB and 256GiB."
        " Existing volumes keep their size. A disk has at most 8,000 volumes; with many, new ones are larger",
    ] = 0
    durability: Annotated[
        Literal["fsync", "os"],
        Choice("fsync", "os"),
        "fsync: a put is answered when its bytes are on disk; os: when the operating system has them, so a"
        " power cut can lose them",
    ] = "fsync"
    lease_s: Annotated[
        float, Seconds(1, 3600), "how long a client may use the room that was reserved for it"
    ] = 60.0
    upload_expires_s: Annotated[
        float, Seconds(1, 30 * 86400), "an upload that receives no chunk for this long is given up"
    ] = 3600.0
    multipart_expires_s: Annotated[
        float, Seconds(60, 365 * 86400), "an upload in parts that receives no part for this long is given up"
    ] = 7 * 86400.0
    disk_reserve: Annotated[
        int,
        Size(0, 16 * TIB),
        "space left free on every disk, for compaction and for the rest of the machine",
    ] = 1 * GIB
    catalog_reserve: Annotated[
        int,
        Size(0, 1 * TIB),
        "space set aside on the catalog's disk, so that deletes and compactions continue when it is full;"
        " at most a sixteenth of that disk",
    ] = 64 * MIB


class Compaction(Section, frozen=True, kw_only=True):
    """How space is reclaimed.  Deleted and overwritten data wastes space until its volume is compacted."""

    automatic: Annotated[
        Literal["on", "off"],
        Choice("on", "off"),
        "on: compact automatically; off: only `warehouse compact` does",
    ] = "on"
    wasted_percent: Annotated[
        int, Count(1, 99), "a volume is compacted when this percentage of its file is wasted"
    ] = 30
    wasted_min: Annotated[
        int, Size(0, 16 * TIB), "a volume that wastes less than this is not compacted while the disk has room"
    ] = 64 * MIB
    rate: Annotated[
        int,
        Size(1 * MIB, 64 * GIB),
        "bytes per second that compaction and verification may read and write on a disk that clients use",
    ] = 32 * MIB
    rate_idle: Annotated[
        int,
        Size(0, 64 * GIB),
        "the same while no client uses the disk; 0: no limit",
    ] = 0


class Verification(Section, frozen=True, kw_only=True):
    """How damage is found before a client asks for the data: every needle is read again and checked."""

    automatic: Annotated[
        Literal["on", "off"],
        Choice("on", "off"),
        "on: verify automatically; off: only `warehouse verify` does",
    ] = "on"
    period_s: Annotated[float, Seconds(60, 366 * 86400), "every needle is read again within this time"] = (
        14 * 86400.0
    )


class Http(Section, frozen=True, kw_only=True):
    """Limits of the data port and of S3, for every connection."""

    connections: Annotated[
        int,
        Count(1, 65536),
        "open connections that have shown a token, and the same number that have not;"
        " a new one replaces the connection without a token that has been silent longest",
    ] = 1024
    strangers_per_s: Annotated[
        int,
        Count(0, 1_000_000),
        "connections and requests without a good token that one address may make in a second, and twice as"
        " many at once; more of them wait; 0: no bound",
    ] = 100
    header_size: Annotated[int, Size(1 * KIB, 256 * KIB), "largest head of a request"] = 16 * KIB
    header_s: Annotated[float, Seconds(0.1, 3600), "time for a request head to arrive"] = 10.0
    idle_s: Annotated[
        float, Seconds(0.1, 86400), "a connection without a request for this long is closed"
    ] = 75.0
    body_rate_min: Annotated[
        int,
        Size(0, 1 * GIB),
        "bytes per second that a sender must send, or a reader read, on average, after the first 10 s",
    ] = 1 * KIB
    write_stall_s: Annotated[float, Seconds(0.1, 3600), "how long a reader may read no byte at all"] = 30.0
    drain_size: Annotated[
        int,
        Size(0, 64 * MIB),
        "unread body that is read and discarded, so that a refused sender sees the answer",
    ] = 256 * KIB
    unheard_s: Annotated[
        float,
        Seconds(1, 7 * 86400),
        "a volume actor that has not heard from its master for this long honours no token: it may not know of"
        " keys that lost their rights",
    ] = 900.0
    cors_origins: Annotated[
        tuple[str, ...],
        Texts(_ORIGIN),
        "web pages whose scripts may use the data port with a token",
    ] = ()


class Audit(Section, frozen=True, kw_only=True):
    """The record of who did what, in `<data>/master/audit.jsonl`."""

    enabled: Annotated[
        Literal["on", "off"],
        Choice("on", "off"),
        "on: the master writes the audit log; off: it writes none, and keeps the files that there are",
    ] = "on"
    size: Annotated[
        int, Size(64 * KIB, 16 * GIB), "a file of the log that would grow beyond this is put aside"
    ] = 64 * MIB
    files: Annotated[int, Count(1, 1000), "files that are kept; the oldest is removed"] = 10
    failures_per_minute: Annotated[
        int,
        Count(0, 100_000),
        "refused logins, tokens and requests of one address that are written in full each minute",
    ] = 60
    sample: Annotated[
        int,
        Count(1, 1_000_000),
        "of the refusals beyond that, and of what a key repeats without end, one of this many is written;"
        " each line says how many were left out",
    ] = 100


class Tls(Section, frozen=True, kw_only=True):
    """Encryption of the HTTP ports.  The control port is always encrypted."""

    mode: Annotated[
        Literal["auto", "on", "off"],
        Choice("auto", "on", "off"),
        "auto: every port that is not on loopback alone speaks TLS; on: those on loopback do, too; off: none,"
        " and ports that are not on loopback need --insecure",
    ] = "auto"
    certificate: Annotated[
        Path | None,
        File(),
        "a certificate of your own for this server, then those that lead to its authority (PEM); read again"
        " when the file changes. Empty: the store makes certificates, and renews them",
    ] = None
    key: Annotated[
        Path | None, File(), "the private key of that certificate (PEM, not encrypted), for its owner alone"
    ] = None
    authority: Annotated[
        Path | None,
        File(),
        "certificates (PEM) that clients and disks shall trust as well, say of the authority of your own"
        " certificates; the master hands them out",
    ] = None


class Monitoring(Section, frozen=True, kw_only=True):
    """The ports with health and metrics: the master's, and one for each volume actor and each gateway."""

    host: Annotated[
        str,
        OptionalHost(),
        "address to listen on. Empty: the --host of the actor where that is loopback, else 127.0.0.1 or ::1."
        " Other addresses need monitoring.token_file",
    ] = ""
    token_file: Annotated[
        Path | None,
        File(),
        "a file with a token of 16 or more characters, for its owner alone; requests must then show it, as"
        " `Authorization: Bearer ...`",
    ] = None


class Console(Section, frozen=True, kw_only=True):
    """The console: the store in a browser."""

    mode: Annotated[
        Literal["on", "off"],
        Choice("on", "off"),
        "whether `warehouse up` starts the console, at cluster.port_base + 80",
    ] = "on"
    url: Annotated[
        str,
        Text(r"|https?://[^\s?#]{1,500}", 'empty, or "https://host[:port][/path]"'),
        "under which browsers reach the console where a proxy stands in front, with the path that it adds",
    ] = ""
    session_hours: Annotated[
        int, Count(1, 24 * 30), "how long a person who does nothing stays signed in, hours"
    ] = 12
    session_days: Annotated[
        int, Count(1, 365), "how long a person stays signed in at most, whatever they do, days"
    ] = 30


class S3(Section, frozen=True, kw_only=True):
    """The S3 endpoint, which `warehouse up` and `warehouse gateway` start."""

    processes: Annotated[
        int,
        Count(0, GATEWAYS_MAX),
        "number of gateways that `warehouse up` starts, at cluster.port_base + 90, which they share;"
        " each uses one core at most. 0: none",
    ] = 1
    region: Annotated[
        str,
        Text(r"[a-z0-9-]{1,64}", "1 to 64 of a-z, 0-9 and '-'"),
        "where buckets say that they are; clients may sign for any region",
    ] = "us-east-1"
    domains: Annotated[
        tuple[str, ...],
        Texts(_DOMAIN),
        "names of the endpoint below which each bucket has a host of its own (`photos.s3.example.org`)",
    ] = ()
    signature_v2: Annotated[
        Literal["on", "off"],
        Choice("on", "off"),
        "whether signatures of version 2, which old clients make, are taken; the master checks each of them",
    ] = "off"
    upload_memory: Annotated[
        int,
        Size(64 * MIB, 1 * TIB),
        "bytes that the bodies of all requests together may take of a gateway's memory; beyond that they"
        " wait, and after 30 s they are refused with SlowDown",
    ] = 256 * MIB
    trusted_proxies: Annotated[
        tuple[str, ...],
        Texts(_NETWORK),
        "addresses and networks of proxies in front, whose X-Forwarded-Host and X-Forwarded-For are believed",
    ] = ()
    access_log: Annotated[
        str,
        Text(r"[^\x00-\x1f\x7f]{1,1000}", '"off", "stderr", or the path of a file'),
        "where each request is written down, one JSON object a line: a file, which all gateways of a machine"
        " may share, or stderr, between the lines of the log; off: nowhere",
    ] = "off"
    access_log_size: Annotated[
        int, Size(64 * KIB, 16 * GIB), "an access log that would grow beyond this is put aside"
    ] = 64 * MIB
    access_log_files: Annotated[
        int, Count(1, 1000), "files of the access log that are kept; the oldest is removed"
    ] = 10


class Log(Section, frozen=True, kw_only=True):
    """What actors write to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Choice("debug", "info", "warning", "error"),
        "the least important level that is written",
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Choice("text", "json"),
        "text for people, json for programs (one object per line)",
    ] = "text"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    cluster: Cluster = Cluster()
    store: Store = Store()
    compaction: Compaction = Compaction()
    verification: Verification = Verification()
    http: Http = Http()
    tls: Tls = Tls()
    monitoring: Monitoring = Monitoring()
    audit: Audit = Audit()
    console: Console = Console()
    s3: S3 = S3()
    log: Log = Log()


# --- the list of settings -------------------------------------------------------------------------


@dataclass(frozen=True)
class SettingDoc:
    """One setting, for documentation and checks."""

    section: str
    key: str
    type: SettingType
    default: Any
    description: str

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        return f"{VARIABLE_PREFIX}{self.section}_{self.key}".upper()

    @property
    def default_text(self) -> str:
        """The default as written in a TOML file."""
        return self.type.write(self.default)

    def read(self, value: object, *, origin: str) -> Any:
        try:
            return self.type.read(value)
        except ValueError:
            raise BadSetting(f"{origin} is {value!r}; allowed is {self.type.allowed}") from None


def _sections() -> dict[str, type[Section]]:
    return typing.get_type_hints(Settings)


def _settings_of(section: str, struct: type[Section]) -> Iterator[SettingDoc]:
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        _, type_, description = typing.get_args(hints[field.name])
        yield SettingDoc(section, field.name, type_, field.default, description)


def describe() -> list[SettingDoc]:
    """Every setting, in the order of the documentation."""
    return [setting for name, struct in _sections().items() for setting in _settings_of(name, struct)]


# --- loading --------------------------------------------------------------------------------------


def load_settings(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Read the settings from all their sources.

    Args:
        path: a TOML file; None: the file that WAREHOUSE_CONFIG names, if it is set.
        environ: the environment; by default this process's.
        flags: values from the command line by name, such as {"cluster.volumes": 2}; None counts as absent.
    Raises:
        BadSetting: the file cannot be read, a setting is unknown, or a value is not allowed.
    """
    environ = os.environ if environ is None else environ
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    values: dict[str, Any] = {}
    if path is not None:
        values |= _from_file(path)
    values |= _from_environment(environ)
    values |= _from_flags(flags or {})
    return _checked(_assemble(values), path)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content, _ = read_small(path, FILE_SIZE_MAX)
        document = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise BadSetting(f"cannot read the settings file {path}: {error.strerror}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # also numbers and nesting that the parser refuses
        raise BadSetting(f"{path} is not a TOML file: {error}") from error
    return dict(_from_document(document, path))


def _from_document(document: dict[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    known = {setting.name: setting for setting in describe()}
    sections = list(_sections())
    for section, content in document.items():
        if section not in sections:
            raise BadSetting(f"{path}: unknown section [{section}]{_hint(section, sections)}")
        if not isinstance(content, dict):
            raise BadSetting(f"{path}: {section} is a section: write [{section}] and its settings below")
        for key, value in content.items():
            setting = known.get(f"{section}.{key}")
            if setting is None:
                keys = [other.key for other in known.values() if other.section == section]
                raise BadSetting(f"{path}: unknown setting {section}.{key}{_hint(key, keys)}")
            yield setting.name, setting.read(value, origin=f"{path}: {setting.name}")


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {setting.variable: setting for setting in describe()}
    values = {}
    for variable, value in environ.items():
        if variable in known:
            setting = known[variable]
            values[setting.name] = setting.read(value, origin=f"the variable {variable}")
        elif _is_meant_for_us(variable, known):
            raise BadSetting(f"unknown variable {variable}{_hint(variable, list(known))}")
    return values


def _is_meant_for_us(variable: str, known: Mapping[str, SettingDoc]) -> bool:
    """A misspelt variable must not be ignored; other programs may have WAREHOUSE_ variables of their own."""
    if not variable.startswith(VARIABLE_PREFIX):
        return False
    section = variable.removeprefix(VARIABLE_PREFIX).partition("_")[0].lower()
    return section in _sections() or bool(difflib.get_close_matches(variable, known, n=1, cutoff=0.9))


def _from_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    known = {setting.name: setting for setting in describe()}
    return {
        name: known[name].read(value, origin=f"{name} on the command line")
        for name, value in flags.items()
        if value is not None
    }


def _hint(word: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else f"; there are {', '.join(known)}"


def _assemble(values: Mapping[str, Any]) -> Settings:
    sections: dict[str, Any] = {}
    for name, struct in _sections().items():
        prefix = name + "."
        sections[name] = struct(
            **{key.removeprefix(prefix): values[key] for key in values if key.startswith(prefix)}
        )
    return Settings(**sections)


def _checked(settings: Settings, path: Path | None) -> Settings:
    """Check what no single value can show."""
    store = settings.store
    if store.volume_size and store.volume_size < max(2 * store.chunk_size, VOLUME_SIZE_MIN):
        where = f"{path}: " if path else ""
        raise BadSetting(
            f"{where}store.volume_size ({store.volume_size}) must be at least twice store.chunk_size"
            f" ({store.chunk_size}), and at least {VOLUME_SIZE_MIN}; 0 derives it from the disk"
        )
    if (settings.tls.certificate is None) != (settings.tls.key is None):
        where = f"{path}: " if path else ""
        raise BadSetting(f"{where}tls.certificate and tls.key belong together: set both, or neither")
    for network in settings.s3.trusted_proxies:
        try:
            ip_network(network, strict=False)
        except ValueError as error:
            where = f"{path}: " if path else ""
            raise BadSetting(f"{where}s3.trusted_proxies has no network {network!r}: {error}") from None
    return settings


# --- documentation --------------------------------------------------------------------------------


def sample_file() -> str:
    """A settings file with every setting at its default, commented out."""
    lines = [
        "# Settings of Warehouse.  Every setting is optional; the values below are the defaults.",
        "# Use the file with `--config FILE`, or name it in WAREHOUSE_CONFIG.",
    ]
    for name, struct in _sections().items():
        lines += ["", f"# {struct.__doc__}", f"[{name}]"]
        for setting in _settings_of(name, struct):
            lines += [f"# {setting.description}", f"# ({setting.type.allowed})"]
            lines += [f"#{setting.key} = {setting.default_text}"]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The documentation page of all settings, in Markdown."""
    lines = [
        "# Settings",
        "",
        "<!-- Generated by `python -m warehouse.conf reference` from conf/settings.py: change it there. -->",
        "",
        "Every setting has a default, so you need none to start. A later source overrides an earlier one:",
        "",
        "1. the defaults below;",
        f"2. a TOML file: `--config FILE`, or the file that the variable `{FILE_VARIABLE}` names"
        " (start from [warehouse.sample.toml](warehouse.sample.toml));",
        "3. environment variables;",
        "4. flags on the command line.",
        "",
        "A setting that is unknown or not allowed stops the actor before it touches any data. One line names",
        "the place of the setting, its value, and the allowed values. Sizes are bytes or text: `4096`,",
        "`80MiB`, `1.5GB`. Times are seconds or text: `90`, `15m`, `250ms`.",
    ]
    for name, struct in _sections().items():
        lines += ["", f"## [{name}]", "", struct.__doc__ or "", ""]
        lines += ["| setting | default | meaning | allowed | variable |", "| --- | --- | --- | --- | --- |"]
        lines += [_row(setting) for setting in _settings_of(name, struct)]
    return "\n".join(lines) + "\n"


def _row(setting: SettingDoc) -> str:
    cells = [
        f"`{setting.key}`",
        f"`{setting.default_text}`",
        setting.description,
        setting.type.allowed,
        f"`{setting.variable}`",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
