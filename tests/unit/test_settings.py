"""The validation of settings, and its messages."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from service.booking.health import PURGE_LATE_SECONDS
from service.process.serving import server_config
from service.settings import Settings, split_urls


@pytest.mark.parametrize("name", ["ADMIN_TOKEN", "CRON_SECRET", "TOKEN_SECRET"])
@pytest.mark.parametrize("blank", [" ", ",", ",,", "\n"])
def test_secrets_are_not_blank(monkeypatch: pytest.MonkeyPatch, name: str, blank: str) -> None:
    """A service without a secret to sign with must not start."""
    monkeypatch.setenv(name, blank)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize("name", ["ADMIN_TOKEN", "CRON_SECRET"])
@pytest.mark.parametrize(
    "token", ["s3cret-schlüssel", "s3cret\nsecond-line", "s3cret\ttab", "s3cret-\x7f", "s3cret \N{KEY}"]
)
def test_a_token_can_be_sent_in_a_header(monkeypatch: pytest.MonkeyPatch, name: str, token: str) -> None:
    """No request with any other one would be authorized. The message does not quote it."""
    monkeypatch.setenv(name, token)
    with pytest.raises(ValidationError, match="characters that a header can't carry: write it in ASCII") as raised:
        Settings()
    assert "s3cret" not in str(raised.value)
    monkeypatch.setenv(name, "!any ASCII~")
    monkeypatch.setenv("TOKEN_SECRET", token)
    assert Settings().token_secret is not None


def test_a_line_end_is_no_part_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of secrets end with one, and a header cannot contain it."""
    monkeypatch.setenv("ADMIN_TOKEN", "secret\n")
    token = Settings().admin_token
    assert token is not None
    assert token.get_secret_value() == "secret"


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "postgres//user:s3@cret@127.0.0.1/db",
        "mysql://user:s3cret@127.0.0.1/db",
        *(
            f"postgresql://user:s3{raw}cret@127.0.0.1:5432/db"
            for raw in ("@", "/", "#", "?", "%", "%zz", "@/", "/@", " @")
        ),
        "postgresql://user:3/cret@127.0.0.1/db",
        "postgresql://user:3/s?user=cret@127.0.0.1",
        "postgresql://user@127.0.0.1/db?password=s3@cret",
        "postgresql://user:s3cret",
        *(" ", "\n", "postgresql:// /db", "postgresql://user:s3 cret@127.0.0.1/db", "postgresql://127.0.0.1/d b"),
        "postgresql://user:s3cret@127.0.0.1/db?sslmodus=require",
        "postgresql://user:65536",
        "postgresql://user@127.0.0.1:0/db",
        "postgresql://user@one:5432,127.0.0.1:314159/db",
        "host=127.0.0.1 password=s3 cret",
        "host=127.0.0.1 password=s3 cret=1",
        "host=127.0.0.1 password='s3cret",
    ],
)
def test_a_faulty_url_is_not_quoted(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    """It may contain a password, of which the message says how to write it."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/db")
    monkeypatch.setenv(name, url)
    with pytest.raises(ValidationError) as raised:
        Settings()
    [fault] = raised.value.errors(include_input=False)
    assert fault["loc"] == (name.lower(),)
    assert "postgresql://user:password@host" in fault["msg"]
    assert "@ is %40" in fault["msg"]
    assert "options behind it are those of libpq" in fault["msg"]
    assert not any(part in str(raised.value) for part in ("s3", "cret", "127", "314159"))


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL", "STANDBY_DATABASE_URL"])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("sslmode=requried", "invalid sslmode value"),
        ("target_session_attrs=any-one", "invalid target_session_attrs value"),
        ("keepalives_idle=soon", "invalid keepalives_idle value"),
        ("tcp_user_timeout=", "invalid tcp_user_timeout value"),
        ("service=nowhere", 'definition of service "nowhere" not found'),
        ("sslmode=prefer&sslrootcert=system", 'weak sslmode "prefer" may not be used with sslrootcert=system'),
        ("host=one,two&port=1,2,3", "could not match 3 port numbers to 2 hosts"),
    ],
)
def test_an_option_that_can_never_connect_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, options: str, reason: str
) -> None:
    """`serve` would wait for such a database as for one that is starting. The message names the option, and neither its
    value nor the password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/db")
    monkeypatch.setenv(name, f"postgresql://user:s3cret@/db?{options}")
    with pytest.raises(ValidationError) as raised:
        Settings()
    [fault] = raised.value.errors(include_input=False)
    assert fault["loc"] == (name.lower(),)
    assert f"has an option that PostgreSQL's libpq refuses: {reason}" in fault["msg"]
    assert not any(part in str(raised.value) for part in ("s3cret", "requried", "any-one", "soon"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3%40%2F%23%3F%25cret@127.0.0.1:5432/db",
        "postgres://user%40tenant:s3cret:more@[::1]:5432/db?sslmode=require",
        "postgresql://user:s3cret@one:5432,two:5433/db",
        "postgresql://user:s3cret@one,two:65535/db",
        "postgresql:///db?host=/run/postgresql&user=holdfast",
        "postgresql://user:s3cret@192.0.2.1/db?sslmode=verify-full&sslrootcert=/mounted-later&keepalives_count=3",
        "host=one,two hostaddr=192.0.2.1,192.0.2.2 port=5432 keepalives=0",
        "hostaddr=192.0.2.1,192.0.2.2 port=5432,5433",
        "host=127.0.0.1 port=5432 dbname=db password='s3@ /#cret'",
    ],
)
def test_a_url_that_libpq_understands_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Escaped characters, lists of hosts, sockets, and the form of key=value pairs."""
    monkeypatch.setenv("DATABASE_URL", url)
    given = Settings().database_url
    assert given is not None
    assert given.get_secret_value() == url
    assert "s3" not in repr(Settings())


@pytest.mark.parametrize("url", ["postgresql://user@/db", "postgresql:///?service=several"])
def test_the_hosts_of_a_url_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
    """In variables of libpq, or in its service file, with a port for each host."""
    (tmp_path / "services").write_text("[several]\nhost=one,two\nport=5432,5433\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    if "service" not in url:
        monkeypatch.setenv("PGHOST", "one,two")
        monkeypatch.setenv("PGPORT", "5432,5433")
    monkeypatch.setenv("DATABASE_URL", url)
    assert Settings().database_url is not None


@pytest.mark.parametrize("name", Settings.model_fields)
def test_bytes_that_are_not_utf_8_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As of a file of settings in Latin-1. Most of them would end the start with a traceback."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/db")
    monkeypatch.setenv(name.upper(), os.fsdecode("quince-ü".encode("latin-1")))
    with pytest.raises(ValidationError) as raised:
        Settings()
    [fault] = raised.value.errors(include_input=False)
    assert (fault["loc"], fault["msg"].partition(":")[0]) == ((name,), "Value error, is not in UTF-8")
    assert "quince" not in str(raised.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "STANDBY_DATABASE_URL", "REDIS_URL"])
def test_a_line_end_is_no_part_of_a_url(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Files of secrets end with one. PostgreSQL would look for a database whose name ends with it."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/db")
    url = "redis://127.0.0.1/0" if name == "REDIS_URL" else "postgresql://user:s3cret@127.0.0.1/holdfast"
    monkeypatch.setenv(name, f"{url}\n")
    assert getattr(Settings(), name.lower()).get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "redis://127.0.0.1:redis/0",
        "redis://127.0.0.1:65536",
        "redis://:s3/cret@127.0.0.1:6379/0",
        "redis://:s3#cret@127.0.0.1:6379/0",
        "redis://[::1",
        "redis://:s3cret@127.0.0.1?colour=red",
        "redis://:s3cret@127.0.0.1?db=first",
        "rediss://:s3cret@127.0.0.1?ssl_cert_reqs=perhaps",
        *(
            f"redis://:s3cret@127.0.0.1:6379/{database}"
            for database in ("perhaps", "-1", "1/2", "1/", "/1", "%31", " 1")
        ),
        *(f"redis://:s3cret@127.0.0.1/{options}" for options in ("1?db=2", "?db=1&db=1", "?db=-1", "?db=", "#1")),
        *(f"unix:///127/redis.sock?db={database}" for database in ("perhaps", "-1", "")),
        *(f"redis://:s3cret@{host}/0" for host in ("", ":6379", "127.0.0.1:0", "127.0.0.1:", "127 .0.0.1")),
        "unix:///",
    ],
)
def test_a_url_that_the_client_of_redis_refuses_is_not_quoted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The workers could not start with it, or would take it for a Redis that is down."""
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ValidationError) as raised:
        Settings()
    [fault] = raised.value.errors(include_input=False)
    assert fault["loc"] == ("redis_url",)
    assert "redis://:password@host:port/0" in fault["msg"]
    assert "/ is %2F" in fault["msg"]
    assert not any(part in str(raised.value) for part in ("s3", "cret", "127", "perhaps"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3%2Fcret@127.0.0.1:6379/1?health_check_interval=9",
        "rediss://[::1]",
        "redis://redis.internal:6379/?db=3",
        "rediss://user@redis/15",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_url_of_redis_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """With escaped characters, options of the client, or a socket."""
    monkeypatch.setenv("REDIS_URL", url)
    given = Settings().redis_url
    assert given is not None
    assert given.get_secret_value() == url


@pytest.mark.parametrize(("seconds", "is_accepted"), [("0", True), ("0.1", True), ("0.09", False), ("1e-9", False)])
def test_the_purge_has_pauses(monkeypatch: pytest.MonkeyPatch, seconds: str, is_accepted: bool) -> None:
    """An interval of a nanosecond keeps a processor busy with looking for holds that have expired."""
    monkeypatch.setenv("CLEANUP_INTERVAL_SECONDS", seconds)
    if is_accepted:
        assert Settings().cleanup_interval_seconds == float(seconds)
    else:
        with pytest.raises(ValidationError, match=r"must be 0, or at least 0\.1"):
            Settings()


@pytest.mark.parametrize("hours", ["inf", "1e9", "0"])
def test_the_idempotency_window_has_bounds(monkeypatch: pytest.MonkeyPatch, hours: str) -> None:
    """The purge subtracts it from the time."""
    monkeypatch.setenv("IDEMPOTENCY_WINDOW_HOURS", hours)
    with pytest.raises(ValidationError, match="idempotency_window_hours"):
        Settings()


def test_the_service_purges_before_the_purge_counts_as_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its health would be degraded before each run."""
    monkeypatch.setenv("CLEANUP_INTERVAL_SECONDS", str(PURGE_LATE_SECONDS))
    with pytest.raises(ValidationError, match="cleanup_interval_seconds"):
        Settings()


def test_urls_for_migrations_are_separated_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a proxy and its partitions. In libpq's other form a URL has spaces itself, and is one."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/db")
    for text, expected in (
        ("postgresql://proxy/db  postgresql://north/db\npostgres://south/db", ("proxy", "north", "south")),
        ("host=127.0.0.1 dbname=db", ("host=127.0.0.1 dbname=db",)),
    ):
        monkeypatch.setenv("MIGRATION_DATABASE_URL", text)
        urls = Settings().migration_database_url
        assert urls is not None
        assert tuple(urlsplit(url).hostname or url for url in split_urls(urls)) == expected
    monkeypatch.setenv("MIGRATION_DATABASE_URL", "postgresql://proxy/db postgresql://user:s3@cret@north/db")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "cret" not in str(raised.value)


def test_a_url_for_migrations_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DATABASE_URL the service would start an embedded server, and ignore the named one."""
    monkeypatch.setenv("MIGRATION_DATABASE_URL", "postgresql://owner@127.0.0.1/holdfast")
    with pytest.raises(ValidationError, match="needs DATABASE_URL beside it"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value", "faulty", "allowed"),
    [
        ("LOG_LEVEL", "loud", "loud", "debug, info, warning or error"),
        ("RATE_LIMIT", "60/day", "60/day", "/second, /minute or /hour"),
        ("RATE_LIMIT", "0/hour", "0/hour", "/second, /minute or /hour"),
        ("CORS_ORIGINS", "https://a.example, https://b.example/", "https://b.example/", "no slash at the end"),
        ("CORS_ORIGINS", "https://a.example, *", "* allows", "write it alone, or a list without it"),
        ("CORS_ORIGINS", "*, *", "* allows", "write it alone, or a list without it"),
        *(
            ("CORS_ORIGINS", f"https://a.example, {origin}", origin, "neither :443 of https nor :80 of http")
            for origin in (
                *("https://b.example:443", "http://b.example:80", "https://b.example:", "https://b.example:99999"),
                *("https://b.example:0443", "https://b.example:b", "https://:8443", "https://..", "https://b..example"),
                *("https://[::1", "https://::1", "http://[0:0::1]", "http://[b.example]", "http://127.1", "http://999"),
                *("https://*.b.example", "https://B.example", "null", "**", "b.example"),
            )
        ),
        ("TRUSTED_PROXIES", "::1, ::ffff:10.0.0.0/104", "::ffff:10.0.0.0/104", "is written as one: write a list of"),
        ("TRUSTED_PROXIES", "::1, ::ffff:10.0.0.1", "::ffff:10.0.0.1", "is written as one: write a list of"),
        ("TRUSTED_PROXIES", "::1, fe80::1%eth0", "fe80::1%eth0", "compared without it: write a list of"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, proxy", "proxy", "addresses and networks like 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.1/8", "addresses and networks like 10.0.0.0/8"),
    ],
)
def test_a_fault_names_the_wrong_part_and_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, faulty: str, allowed: str
) -> None:
    """The message is in words and not a regular expression."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    [fault] = raised.value.errors(include_input=False)
    assert fault["loc"] == (name.lower(),)
    assert faulty in fault["msg"]
    assert allowed in fault["msg"]
    assert value == faulty or value not in fault["msg"]


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "https://book.example,http://localhost:5173",
        "http://b.example:443,https://b.example:80,https://b_b.example.:8443",
        "http://127.0.0.1:65535,http://[::1]:8080,https://4.b4",
    ],
)
def test_origins_are_written_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    """With a port that is not the usual one of the scheme, and addresses in their shortest form."""
    monkeypatch.setenv("CORS_ORIGINS", origins)
    assert Settings().cors_origins == tuple(origins.split(","))


@pytest.mark.parametrize(
    "folder", [" ", "\n", "~", "~/data", "~holdfast/data", "$HOME/data", "${HOME}/data", "data\n", " data"]
)
def test_a_folder_is_written_as_it_is(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """A file of settings does not replace what a shell does, and the data would be in a folder named `~`."""
    monkeypatch.setenv("DATA_DIR", folder)
    with pytest.raises(ValidationError, match=r"data_dir\n.*~ and \$HOME are not replaced"):
        Settings()
    for path in ("d", ".data", "/var/lib/hold fast", "a~b/c$d"):
        monkeypatch.setenv("DATA_DIR", path)
        assert str(Settings().data_dir) == path


@pytest.mark.parametrize(
    "url",
    [" ", "127.0.0.1:4318", "collector", "http://", "http:///v1", "ftp://collector", "http://a b", "http://a?b=c"],
)
def test_a_collector_is_found_by_a_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The exporter would drop all spans, with a line in the log for each batch."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with pytest.raises(ValidationError, match=r"not the URL of a collector .*, like http://127\.0\.0\.1:4318"):
        Settings()


NUMBERS = ["-1", "1e3", "0x10", "1.5", "ten", "nan", "inf", "99999999", " "]
SWITCHES = ["2", "flase", "enabled", " "]
DATABASE_URLS = [" ", "/db", "mysql://host/db", "postgresql://host:0/db", "postgresql://a b/db", "host=a b"]
TOKENS = [" ", "\n", ",", "schlüssel", "two\nlines"]
# By name, values that are meant as something else than what the service would do with them.
HOSTILE = {
    "HOST": [" ", "*", "127.0.0.1 ", "localhost:8000", "http://localhost", "[::1]", "::1:8000:x", "10.0.0.0/8"],
    "PORT": [*NUMBERS, "65536", "8000/tcp"],
    "CORS_ORIGINS": ["https://a.example, *", "https://a.example:443", "https://a.example/", "A.example", "null"],
    "WORKERS": [*NUMBERS, "0", "auto"],
    "KEEP_ALIVE_SECONDS": [*NUMBERS, "0", "75s"],
    "PAGES_ENABLED": SWITCHES,
    "DATABASE_URL": DATABASE_URLS,
    "MIGRATION_DATABASE_URL": [*DATABASE_URLS, "postgresql://a/db mysql://b/db"],
    "STANDBY_DATABASE_URL": DATABASE_URLS,
    "DATA_DIR": [" ", "~/data", "$HOME/data", "data\n"],
    "ADMIN_TOKEN": TOKENS,
    "CRON_SECRET": TOKENS,
    "TOKEN_SECRET": [" ", "\n", ",", ",,"],
    "CLEANUP_INTERVAL_SECONDS": ["-1", "nan", "inf", "1m", "0.01", "241", " "],
    "IDEMPOTENCY_WINDOW_HOURS": ["-1", "0", "nan", "inf", "24h", "87601", " "],
    "REDIS_URL": [" ", "host:6379", "http://host", "redis://host/notadb", "redis://host:0/0", "redis:///0", "unix:///"],
    "RATE_LIMIT_ENABLED": SWITCHES,
    "RATE_LIMIT": [" ", "6000", "6000/day", "0/minute", "-1/minute", "1.5/minute", "6000 / minute", "6000/minute\n"],
    "MAX_LIVE_HOLDS_PER_CLIENT": [*NUMBERS, "0"],
    "MAX_DAILY_BOOKINGS_PER_CLIENT": [*NUMBERS, "0"],
    "TRUSTED_PROXIES": ["*", "10", "10.0.0.1/8", "proxy", "10.0.0.0/33", "::ffff:10.0.0.0/104", "fe80::1%eth0"],
    "MAX_BATCH": [*NUMBERS, "0", "1001"],
    "LOG_LEVEL": [" ", "loud", "warn", "info,debug", "20"],
    "OTEL_EXPORTER_OTLP_ENDPOINT": [" ", "collector:4318", "collector", "http://", "ftp://collector"],
}


def test_every_setting_has_hostile_values() -> None:
    """A setting that is added needs some."""
    assert HOSTILE.keys() == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in HOSTILE for value in HOSTILE[name]])
def test_a_value_that_means_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The message names the setting, and no other one."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/db")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert [fault["loc"] for fault in raised.value.errors()] == [(name.lower(),)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::", "::1", "fe80::1%eth0", "localhost", "a_b.example.", "0"])
def test_a_host_is_an_address_or_a_name(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Whether the machine has it, shows when the port is bound."""
    monkeypatch.setenv("HOST", host)
    assert Settings().host == host


def test_a_level_may_be_written_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most programs accept it."""
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    assert Settings().log_level == "warning"


@pytest.mark.parametrize(
    ("name", "secret", "short"),
    [
        ("ADMIN_TOKEN", "x" * 15, True),
        ("ADMIN_TOKEN", "x" * 16, False),
        ("ADMIN_TOKEN", "x,x" * 6, False),
        ("TOKEN_SECRET", "x" * 16 + "," + "y" * 15, True),
        ("TOKEN_SECRET", "x" * 16 + ", " + "y" * 16 + ",", False),
    ],
)
def test_a_short_secret_is_detected(monkeypatch: pytest.MonkeyPatch, name: str, secret: str, short: bool) -> None:
    """Each entry of a list counts, because all of them verify."""
    monkeypatch.setenv(name, secret)
    assert Settings().short_secrets() == ([name] if short else [])


def test_idle_connections_outlive_those_of_load_balancers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep idle connections for 60 s, and must be the first to close them."""
    assert server_config(Settings()).timeout_keep_alive == 75
    monkeypatch.setenv("KEEP_ALIVE_SECONDS", "620")
    assert server_config(Settings()).timeout_keep_alive == 620


def test_an_empty_setting_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and charts set unused variables to empty strings."""
    monkeypatch.setenv("DATABASE_URL", "")
    assert Settings().database_url is None
