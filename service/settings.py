"""The settings of the service, read from the environment. Their names are part of its interface."""

import re
from importlib import import_module
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn, Ping
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# In the form that browsers send, since any other one would match no request: without a path, a trailing slash or the
# usual port.
_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?:(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)|\[(?P<address>[0-9a-f:.]+)\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_USUAL_PORTS: Final = {"http": "80", "https": "443"}
# redis-py takes 127.0.0.1 where there is no host, 6379 for port 0, database 0 where the path is no number, and 12 for
# /1/2.
_REDIS_URL: Final = re.compile(
    r"(?:rediss?://(?:[^@/?#\s]*@)?(?:[^:@/?#\[\]\s]+|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]*)?(?:/(?P<database>[0-9]*))?"
    r"|unix:///[^/?#\s][^?#\s]*)(?:\?(?P<options>[^#\s]*))?"
)
# libpq's other form is `host=… password=…`.
_URL_SCHEME: Final = re.compile(r"postgres(?:ql)?://")
# User and password have none of the characters that end them.
_UNAMBIGUOUS: Final = re.compile(r"postgres(?:ql)?://(?:[^@/?#\s]*@)?[^@\s]*")
_LAST_PORT: Final = 65_535
# Options that libpq reads only when it connects over TCP.
_NUMBERS: Final = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
_NO_DATABASE_URL: Final = (
    "is not a PostgreSQL URL: postgresql://user:password@host:port/database, where the password is percent-encoded: "
    "@ is %40, / is %2F, # is %23, ? is %3F, % is %25, a space is %20; options behind it are those of libpq, like "
    "?sslmode=require"
)
_NO_REDIS_URL: Final = (
    "is not a Redis URL: redis://:password@host:port/0, rediss://… or unix:///path?db=0, where 0 is the number of the "
    "database, given once, and the password is percent-encoded: @ is %40, / is %2F, # is %23, ? is %3F, % is %25; "
    "options behind it are those of redis-py"
)
# A run of the purge looks at all businesses.
_LEAST_INTERVAL_SECONDS: Final = 0.1

SECRETS: Final = ("admin_token", "cron_secret", "token_secret")
# A shorter secret can be guessed, and offline: a token that it signed is enough to verify each guess.
SECRET_CHARACTERS: Final = 16


def _strip(value: SecretStr) -> SecretStr:
    """Strips the line end of a value read from a file."""
    return SecretStr(value.get_secret_value().strip())


def _check_database_url(url: SecretStr) -> SecretStr:
    """Fails without quoting the URL. The driver's own messages would: where a character of the password is not encoded,
    it takes a part of the password for the host, the port or the database."""
    text = url.get_secret_value()
    # libpq would connect to whatever its own defaults name.
    if not text.strip():
        raise ValueError(_NO_DATABASE_URL)
    try:
        options = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except psycopg.ProgrammingError:
        raise ValueError(_NO_DATABASE_URL) from None
    ports = options.get("port", "").split(",")
    # A port may be left out, also in a list.
    has_ports = all(re.fullmatch("[0-9]{0,5}", port) and 0 < int(port or 1) <= _LAST_PORT for port in ports)
    if not has_ports or (_URL_SCHEME.match(text) and not _UNAMBIGUOUS.fullmatch(text)):
        raise ValueError(_NO_DATABASE_URL)
    if reason := _refused_option(text, options):
        raise ValueError(f"has an option that PostgreSQL's libpq refuses: {reason}")
    return url


def _refused_option(url: str, options: dict[str, str]) -> str | None:
    """Returns why libpq would refuse the options of a URL before it connects, without their values; None if it would
    not. A connection that fails for this reason looks like a server that is down, and would be waited for.

    It is asked with sockets that do not exist in the place of the hosts, so that no server is contacted.
    """
    for name in _NUMBERS:
        if not re.fullmatch("-?[0-9]{1,9}", options.get(name, "0")):
            return f"invalid {name} value"
    hosts = options.get("host") or options.get("hostaddr", "")
    replaced = {"host": ",".join("/nonexistent" for _ in hosts.split(",")), "hostaddr": ""}
    if not hosts:
        replaced["port"] = ""  # both are of a service file or the environment, and may be lists
    conninfo = make_conninfo(url, **replaced).encode()
    if PGconn.ping(conninfo) != Ping.NO_ATTEMPT:
        return None
    return PGconn.connect_start(conninfo).error_message.decode().partition(":")[0].strip()


def _check_database_urls(urls: SecretStr) -> SecretStr:
    for url in split_urls(urls):
        _check_database_url(SecretStr(url))
    return urls


def _check_beside_database(urls: SecretStr, info: ValidationInfo) -> SecretStr:
    """Refuses a URL without `DATABASE_URL`: the service would ignore it and start an embedded server instead."""
    if info.data.get("database_url", info) is None:
        raise ValueError("needs DATABASE_URL beside it: the database under the role of the service")
    return urls


def split_urls(urls: SecretStr) -> tuple[str, ...]:
    """Splits a list of URLs at its spaces. A URL in libpq's other form has spaces itself, and stands alone."""
    text = urls.get_secret_value()
    return tuple(text.split()) if _URL_SCHEME.match(text.strip()) else (text,)


def _check_redis_url(url: SecretStr) -> SecretStr:
    """Fails without quoting the URL, where the client would, or where it would fail at each connection. The client
    makes a connection here, and does not open it."""
    # Imported here, because most installations have no Redis.
    from redis.asyncio import ConnectionPool, RedisError

    text = url.get_secret_value()
    parts = _REDIS_URL.fullmatch(text)
    databases = parse_qs(parts["options"] or "", keep_blank_values=True).get("db", []) if parts else []
    if parts and parts["database"]:
        databases.append(parts["database"])
    if not parts or len(databases) > 1 or not all(re.fullmatch("[0-9]+", database) for database in databases):
        raise ValueError(_NO_REDIS_URL)
    try:
        ConnectionPool.from_url(text).make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RedisError):
        raise ValueError(_NO_REDIS_URL) from None
    return url


def _check_secret(secret: SecretStr) -> SecretStr:
    """Refuses an empty secret and a list of empty ones."""
    if not secret.get_secret_value().strip(","):
        raise ValueError("must not be blank")
    return secret


def _check_token(token: SecretStr) -> SecretStr:
    """Refuses a token that no request can have in its header: every request with it would be unauthorized."""
    if not re.fullmatch("[ -~]+", token.get_secret_value()):
        raise ValueError("has characters that a header can't carry: write it in ASCII, as `openssl rand -hex 32` does")
    return token


def _split(value: Any) -> tuple[Any, ...]:
    """Splits a comma-separated list, dropping spaces and empty entries; returns any other sequence as a tuple."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else tuple(value)


def _parse_origins(value: Any) -> Any:
    origins = _split(value)
    if "*" in origins:
        if len(origins) > 1:
            raise ValueError("* allows the pages of all origins: write it alone, or a list without it")
        return origins
    for origin in origins:
        if not _is_origin(origin):
            raise ValueError(
                f"{origin} is not an origin: * or a list like https://book.example, http://localhost:5173, "
                "in lower case, with no path, no slash at the end, and neither :443 of https nor :80 of http"
            )
    return origins


def _is_origin(text: str) -> bool:
    """Returns whether browsers send this as the origin of a page."""
    parts = _ORIGIN.fullmatch(text)
    if not parts or parts["port"] == _USUAL_PORTS[parts["scheme"]] or int(parts["port"] or 1) > _LAST_PORT:
        return False
    # A name whose last label is a number is an IPv4 address.
    if parts["name"] and not parts["name"].rstrip(".").rpartition(".")[2].isdecimal():
        return True
    try:
        address = ip_address(parts["name"] or parts["address"])
    except ValueError:
        return False
    return str(address) == (parts["name"] or parts["address"])


def _parse_networks(value: Any) -> Any:
    try:
        return tuple(_network(entry) for entry in _split(value))
    except ValueError as error:
        raise ValueError(f"{error}: write a list of addresses and networks like 10.0.0.0/8, ::1") from None


def _network(entry: Any) -> IPv4Network | IPv6Network:
    network = ip_network(entry)
    # Clients that are known by an address of this kind are compared by the IPv4 address in it.
    if isinstance(network, IPv6Network) and network.subnet_of(IPv6Network("::ffff:0:0/96")):
        raise ValueError(f"{entry} is a network of IPv4 addresses, and is written as one")
    if "%" in str(entry):
        raise ValueError(f"{entry} has an interface, and addresses are compared without it")
    return network


def _check_rate(rate: str) -> str:
    if not re.fullmatch("[1-9][0-9]{0,8}/(second|minute|hour)", rate):
        raise ValueError(f"{rate} is not a rate: a whole number and /second, /minute or /hour, like 6000/minute")
    return rate


def _check_interval(seconds: float) -> float:
    if 0 < seconds < _LEAST_INTERVAL_SECONDS:
        raise ValueError(f"must be 0, or at least {_LEAST_INTERVAL_SECONDS}")
    return seconds


def _check_log_level(level: str) -> str:
    *others, last = levels = ("debug", "info", "warning", "error")
    if level.lower() not in levels:
        raise ValueError(f"{level} is not a level: {', '.join(others)} or {last}")
    return level.lower()


def _check_host(host: str) -> str:
    try:
        if not re.fullmatch("[A-Za-z0-9_.-]+", host):
            ip_address(host)
    except ValueError:
        raise ValueError(
            "is not an address or a name, without a port: 127.0.0.1, 0.0.0.0, ::1, :: or localhost"
        ) from None
    return host


def _check_folder(folder: Path) -> Path:
    # A shell replaces ~ and $; a file of settings for systemd or a container does not.
    if not re.fullmatch(r"[^~$\s](?:.*\S)?", str(folder)):
        raise ValueError(
            "is not a folder: write the whole path, like /var/lib/holdfast. ~ and $HOME are not replaced, and a path "
            "has no blanks at its ends"
        )
    return folder


def _check_collector(endpoint: str) -> str:
    """Refuses an endpoint to which no span could be sent. The exporter is imported here, where the message of a failure
    reaches the operator; a worker would only fail to start."""
    # The exporter drops all spans of any other URL.
    if not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", endpoint):
        raise ValueError("is not the URL of a collector that speaks OTLP over HTTP, like http://127.0.0.1:4318")
    try:
        import_module("service.observability.tracing")
    except ImportError:
        raise ValueError("needs the packages of the extra `otel`: pip install 'holdfast[otel]'") from None
    return endpoint


_Stripped = Annotated[SecretStr, AfterValidator(_strip)]
_DatabaseUrl = Annotated[_Stripped, AfterValidator(_check_database_url)]
_beside_database = AfterValidator(_check_beside_database)
_Secret = Annotated[_Stripped, AfterValidator(_check_secret)]
_Token = Annotated[_Secret, AfterValidator(_check_token)]
_Networks = tuple[IPv4Network | IPv6Network, ...]


class Settings(BaseSettings):
    """All settings, validated when a process starts. An empty value counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    host: Annotated[str, AfterValidator(_check_host)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=_LAST_PORT)] = 8000
    # The origins whose pages may call from a browser, comma-separated; `*`, alone, allows all.
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_origins)] = ()
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    # How long an idle connection stays open. It must be longer than a load balancer keeps its own idle connections
    # (60 s is usual): a request sent on a connection that the service is closing is answered with a 502.
    keep_alive_seconds: Annotated[int, Field(ge=1, le=3600)] = 75
    # The booking page, the calendar and the operations page. Without them, only the API and its documentation.
    pages_enabled: bool = True

    # All may contain passwords. If database_url is unset, an embedded server keeps its data in data_dir.
    database_url: _DatabaseUrl | None = None
    # Several, separated by spaces: those of a proxy and of the partitions behind it.
    migration_database_url: Annotated[SecretStr, AfterValidator(_check_database_urls), _beside_database] | None = None
    # A standby of the database, for reads that may be a moment old.
    standby_database_url: Annotated[_DatabaseUrl, _beside_database] | None = None
    data_dir: Annotated[Path, AfterValidator(_check_folder)] = Path(".data")

    admin_token: _Token | None = None
    cron_secret: _Token | None = None
    # Comma-separated: the first one signs, all of them verify.
    token_secret: _Secret | None = None

    # 0 disables the purge inside the service; a scheduler then has to call the cron endpoint. Unset: 60 if embedded,
    # otherwise 0. The maximum is below the five minutes after which /health/reservations reports the purge as late.
    cleanup_interval_seconds: Annotated[float, Field(ge=0, le=240), AfterValidator(_check_interval)] | None = None
    # How long an ended reservation answers for its idempotency key. The maximum is ten years: PostgreSQL has no instant
    # that is a billion hours ago, and the purge would fail.
    idempotency_window_hours: Annotated[float, Field(gt=0, le=87_600)] = 24

    # For state that the processes share and may lose. May contain a password.
    redis_url: Annotated[_Stripped, AfterValidator(_check_redis_url)] | None = None

    # Switches all limits by client: the three below, and those of connections, streams and lists. Each client address
    # counts as one client.
    rate_limit_enabled: bool = True
    # Requests of one client.
    rate_limit: Annotated[str, AfterValidator(_check_rate)] = "6000/minute"
    # Places that one client may hold in one business, and those that it may hold and have booked on one day (UTC). The
    # second is larger: behind one address there may be a school, or the booking page of the business.
    max_live_holds_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    max_daily_bookings_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    # The networks of the proxies whose X-Forwarded-For is trusted, comma-separated.
    trusted_proxies: Annotated[_Networks, NoDecode, BeforeValidator(_parse_networks)] = ()

    # The most requests in one batch. 1 disables group commit, for comparison.
    max_batch: Annotated[int, Field(ge=1, le=1000)] = 128

    log_level: Annotated[str, AfterValidator(_check_log_level)] = "info"
    # OpenTelemetry's own variable; enables tracing.
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_check_collector)] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _check_encoding(cls, value: Any) -> Any:
        """Refuses bytes that are not UTF-8, as of a file in Latin-1. Python has them as surrogates, which nothing else
        takes."""
        if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
            raise ValueError("is not in UTF-8: save the file of settings in that encoding")
        return value

    def short_secrets(self) -> list[str]:
        """Returns the environment names of the secrets with an entry shorter than `SECRET_CHARACTERS`."""
        short = []
        for name in SECRETS:
            secret = getattr(self, name)
            text = secret.get_secret_value() if secret else ""
            entries = _split(text) if name == "token_secret" else (text,)
            if any(0 < len(entry) < SECRET_CHARACTERS for entry in entries):
                short.append(name.upper())
        return short
