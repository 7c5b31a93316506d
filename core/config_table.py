"""The table of every setting of the service: name, type, default, bounds, meaning. `core.config` reads them."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from session_mgmt_mcp.core import settings as light

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_ANY = ("0.0.0.0", "::", "")  # a wildcard is no name that a client asks for
_BIG = 10**12


class Setting(NamedTuple):
    """What the table says of a setting besides its name, type and default. Numbers lie in `low` … `high`."""

    meaning: str
    low: float = 0
    high: float = _BIG
    choices: tuple[str, ...] = ()  # words allowed besides the default
    bare: str = ""  # the variable's name without our prefix, where that is served too
    path: bool = False  # relative ones count from the file's folder, or from the working folder
    reload: bool = False  # taken over on HUP
    secret: bool = False  # never shown


def _bare(name: str, meaning: str, low: int, high: int, reload: bool = False) -> Setting:
    return Setting(meaning, low, high, bare=name, reload=reload)


_ADDRESS = "address to listen on; off loopback requests need keys"
_HOSTS = "Host headers answered; `*.example.com` and `name:port` are understood"
_PROXIES = "addresses or networks whose X-Forwarded-For is believed"


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The table. A setting's key is the attribute, its variable `SESSION_MGMT_` and the key in capitals.

    Names end in their unit; the empty text and the empty list mean "none", or what `__post_init__` makes of it.
    """

    http_host: Annotated[str, Setting(_ADDRESS)] = "127.0.0.1"
    http_port: Annotated[int, Setting("port to listen on; 0: any free one", 0, 65535)] = 8000
    metrics_host: Annotated[str, Setting("address that /metrics is served on")] = "127.0.0.1"
    metrics_port: Annotated[int, Setting("port of /metrics; 0: that of the service", 0, 65535)] = 9090
    metrics_auth: Annotated[
        str, Setting("whether /metrics off loopback needs a key", choices=("keys", "none"))
    ] = "keys"
    auth: Annotated[
        str, Setting("whether requests need a key; unset: on loopback none", choices=("keys", "none"))
    ] = ""
    admin_key_file: Annotated[
        str, Setting("file that holds the key of the first admin", path=True, reload=True)
    ] = ""
    tls_cert_file: Annotated[str, Setting("PEM file of the certificate chain", path=True, reload=True)] = ""
    tls_key_file: Annotated[str, Setting("PEM file of its private key", path=True, reload=True)] = ""
    allowed_hosts: Annotated[tuple[str, ...], Setting(_HOSTS, reload=True)] = ()
    allowed_origins: Annotated[
        tuple[str, ...], Setting("Origin headers of browsers that are answered", reload=True)
    ] = ()
    trusted_proxies: Annotated[tuple[str, ...], Setting(_PROXIES, reload=True)] = ()
    rate_limit: Annotated[int, Setting("requests a minute for each user", 1, 1_000_000, reload=True)] = 600
    rate_burst: Annotated[int, Setting("requests of a user at once", 1, 1_000_000, reload=True)] = 100
    max_body_bytes: Annotated[int, Setting("bytes of a request's body", 1024, 64 << 20, reload=True)] = (
        4 << 20
    )
    request_timeout_s: Annotated[float, Setting("seconds a request may take", 0.1, 3600, reload=True)] = 60.0
    header_timeout_s: Annotated[
        float, Setting("seconds in which a request's head has to arrive", 0.1, 600, reload=True)
    ] = 10.0
    max_concurrency: Annotated[
        int, Setting("requests at work at once, an eighth a user; more wait", 1, 10_000)
    ] = 64
    max_connections: Annotated[int, Setting("connections at once; more are closed", 1, 100_000)] = 2000
    drain_s: Annotated[
        float, Setting("seconds that requests at work get to finish at a stop", 0, 3600, reload=True)
    ] = 20.0
    ready_lag_events: Annotated[
        int, Setting("unpublished events from which /ready says no", 1, reload=True)
    ] = 200_000
    ready_lag_s: Annotated[
        float, Setting("age of unpublished events from which /ready says no", 1, reload=True)
    ] = 3600.0
    log_dir: Annotated[str, Setting("folder of the service's log file; none: stderr", path=True)] = ""
    log_level: Annotated[
        str,
        Setting(
            "least level that is logged (stdio servers: WARNING unless set)", choices=_LEVELS, reload=True
        ),
    ] = "INFO"
    log_max_mb: Annotated[int, Setting("MiB at which the log file is rotated", 1, 100_000)] = 50
    log_keep: Annotated[int, Setting("rotated log files that are kept", 0, 1000)] = 5
    max_memory_mb: Annotated[
        int, _bare("MAX_MEMORY_MB", "MiB of own memory from which work is refused; 0: none", 0, 10**7, True)
    ] = 0
    max_workers: Annotated[
        int, _bare(light.WORKERS_VARIABLE, "threads that embed at once", 1, light.WORKERS_MAX)
    ] = light.WORKERS_DEFAULT
    embedding_cache_size: Annotated[
        int, _bare(light.CACHE_VARIABLE, "queries whose vectors are kept", 0, light.CACHE_MAX)
    ] = light.CACHE_DEFAULT
    embedding_model_path: Annotated[
        str, Setting("folder of your own embedding model", bare=light.MODEL_VARIABLE, path=True)
    ] = ""
    vector_memory_mb: Annotated[
        int,
        _bare(
            light.VECTOR_MEMORY_VARIABLE, "MiB for graphs over vectors; 0: scan", 0, light.VECTOR_MEMORY_MAX
        ),
    ] = light.VECTOR_MEMORY_DEFAULT
    brief_tokens: Annotated[
        int,
        Setting("length of a session's brief, in tokens", light.BRIEF_TOKENS_MIN, light.BRIEF_TOKENS_MAX),
    ] = light.BRIEF_TOKENS_DEFAULT
    database_url: Annotated[
        str, Setting("a PostgreSQL log; not served yet, `serve` refuses", bare="DATABASE_URL", secret=True)
    ] = ""
    redis_url: Annotated[
        str, Setting("a shared Redis; not served yet, `serve` refuses", bare="REDIS_URL", secret=True)
    ] = ""

    def __post_init__(self) -> None:
        if not self.auth:
            msgspec.structs.force_setattr(self, "auth", "none" if is_loopback(self.http_host) else "keys")
        if not self.allowed_hosts:
            host = f"[{self.http_host}]" if ":" in self.http_host else self.http_host
            hosts = dict.fromkeys((*_LOOPBACK_NAMES, *([] if self.http_host in _ANY else [host])))
            msgspec.structs.force_setattr(self, "allowed_hosts", tuple(hosts))


class Row(NamedTuple):
    """A row of the table: a setting with its name, type and default."""

    key: str
    kind: type  # int, float, str or tuple (of texts)
    default: Any
    about: Setting

    @property
    def variables(self) -> tuple[str, ...]:
        """Names under which the environment may set it; the first that is set wins."""
        prefixed = light.PREFIX + (self.about.bare or self.key.upper())
        return (prefixed, self.about.bare) if self.about.bare else (prefixed,)

    @property
    def variable(self) -> str:
        """The name that is told to people."""
        return self.about.bare or self.variables[0]

    @property
    def allowed(self) -> str:
        """What may be given, as a phrase."""
        if self.about.choices:
            return f"one of {', '.join(self.about.choices)}"
        if self.kind is tuple:
            return "a list of texts (in a variable: with commas between)"
        if self.kind is str:
            return "a path" if self.about.path else "a text"
        what = "a whole number" if self.kind is int else "a number"
        return f"{what} {f'of {self.about.low} or more' if self.about.high == _BIG else self._range}"

    @property
    def _range(self) -> str:
        return f"from {self.about.low} to {self.about.high}"


def _table() -> dict[str, Row]:
    hints = get_type_hints(ServiceSettings, include_extras=True)
    rows = {}
    for field in msgspec.structs.fields(ServiceSettings):
        kind, about = get_args(hints[field.name])
        rows[field.name] = Row(field.name, get_origin(kind) or kind, field.default, about)
    return rows


TABLE: Mapping[str, Row] = _table()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than localhost may be anything: it does not count."""
    import ipaddress

    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
