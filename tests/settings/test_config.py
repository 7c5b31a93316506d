"""Settings from the environment and a file: what wins, what is refused and in which words."""

import os
from pathlib import Path

import pytest

from session_mgmt_mcp.core import config, settings
from session_mgmt_mcp.core.config import TABLE, ServiceSettings, load, needs_restart, read
from session_mgmt_mcp.core.errors import SettingsError


def _file(folder: Path, text: str) -> str:
    path = folder / "config.toml"
    path.write_text(text)
    return str(path)


def _refusal(environ: dict[str, str], file: str | None = None) -> str:
    with pytest.raises(SettingsError) as refused:
        load(environ, file)
    return str(refused.value)


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = _file(tmp_path, "http_port = 1111\nrate_limit = 11\nrate_burst = 5\n")
    environ = {"SESSION_MGMT_HTTP_PORT": "2222", "SESSION_MGMT_RATE_LIMIT": "22"}
    found = read(environ, path, http_port=3333, http_host=None)
    assert (found.settings.http_port, found.settings.rate_limit, found.settings.rate_burst) == (3333, 22, 5)
    assert [found.values[key].origin for key in ("http_port", "rate_limit", "rate_burst", "drain_s")] == [
        "command line",
        "environment",
        "file",
        "default",
    ]
    assert found.values["rate_burst"].where == f"{path}:3"


@pytest.mark.parametrize("key", sorted(TABLE))
def test_every_setting_is_read_from_its_variable_and_from_the_file(key: str, tmp_path: Path) -> None:
    row = TABLE[key]
    given = {int: "1025", float: "1.5", tuple: "a.example, b.example", str: "/some/where"}[row.kind]
    if row.kind is int:
        given = str(int(min(max(1025, row.about.low), row.about.high)))
    if row.about.choices:
        given = next(word for word in row.about.choices if word != getattr(ServiceSettings(), key))
    beside = {
        "tls_cert_file": {"SESSION_MGMT_TLS_KEY_FILE": "/k"},
        "tls_key_file": {"SESSION_MGMT_TLS_CERT_FILE": "/c"},
    }
    by_variable = load({**beside.get(key, {}), row.variable: given})
    shown = {int: given, float: given, tuple: '["a.example", "b.example"]', str: f'"{given}"'}[row.kind]
    by_file = load(beside.get(key, {}), _file(tmp_path, f"{key} = {shown}\n"))
    assert getattr(by_variable, key) == getattr(by_file, key)
    assert getattr(by_variable, key) != getattr(ServiceSettings(), key)


def test_a_prefixed_name_wins_over_the_bare_one() -> None:
    assert load({"MAX_MEMORY_MB": "100", "SESSION_MGMT_MAX_MEMORY_MB": "200"}).max_memory_mb == 200
    assert load({"MAX_MEMORY_MB": "100", "SESSION_MGMT_MAX_MEMORY_MB": ""}).max_memory_mb == 100


def test_the_defaults_are_those_of_the_table() -> None:
    assert load({}) == ServiceSettings()
    assert ServiceSettings().embedding_cache_size == settings.CACHE_DEFAULT


def test_off_loopback_keys_are_asked_for_without_being_told() -> None:
    assert [load({}, http_host=host).auth for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [
        "none"
    ] * 4
    assert [load({}, http_host=host).auth for host in ("0.0.0.0", "::", "10.0.0.1", "db.example")] == [
        "keys"
    ] * 4


def test_no_authentication_off_loopback_is_refused() -> None:
    said = _refusal({"SESSION_MGMT_HTTP_HOST": "0.0.0.0", "SESSION_MGMT_AUTH": "none"})
    assert "SESSION_MGMT_AUTH" in said
    assert "keys create" in said


def test_half_a_tls_pair_is_refused() -> None:
    assert "tls_key_file is not" in _refusal({"SESSION_MGMT_TLS_CERT_FILE": "/c.pem"})
    assert "tls_cert_file is not" in _refusal({"SESSION_MGMT_TLS_KEY_FILE": "/k.pem"})


def test_the_bound_host_is_answered_and_a_wildcard_is_no_name() -> None:
    assert load({}, http_host="10.0.0.1").allowed_hosts[-1] == "10.0.0.1"
    assert load({}, http_host="fe80::1").allowed_hosts[-1] == "[fe80::1]"
    assert load({}, http_host="0.0.0.0").allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert load({"SESSION_MGMT_ALLOWED_HOSTS": "a.example"}).allowed_hosts == ("a.example",)


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("SESSION_MGMT_HTTP_PORT", "http", "SESSION_MGMT_HTTP_PORT: http_port is 'http': give a whole number from 0 to 65535"),
        ("SESSION_MGMT_HTTP_PORT", "65536", "from 0 to 65535"),
        ("SESSION_MGMT_HTTP_PORT", "-1", "from 0 to 65535"),
        ("SESSION_MGMT_HTTP_PORT", "8_000", "from 0 to 65535"),
        ("SESSION_MGMT_HTTP_PORT", "٨٠٠٠", "from 0 to 65535"),
        ("SESSION_MGMT_DRAIN_S", "nan", "give a number from 0 to 3600"),
        ("SESSION_MGMT_DRAIN_S", "1e3", "give a number from 0 to 3600"),
        ("SESSION_MGMT_RATE_LIMIT", "0", "from 1"),
        ("SESSION_MGMT_LOG_LEVEL", "warn", "did you mean WARNING?"),
        ("SESSION_MGMT_AUTH", "no", "one of keys, none"),
        ("MAX_WORKERS", "0", "MAX_WORKERS: max_workers is 0"),
    ],
)  # fmt: skip
def test_a_malformed_variable_is_refused_with_its_name_and_what_is_allowed(
    variable: str, text: str, said: str
) -> None:
    assert said in _refusal({variable: text})


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_of_the_command_line_is_judged_as_all_others(port: int) -> None:
    with pytest.raises(SettingsError, match=r"--port: http_port is .* from 0 to 65535"):
        load({}, os.devnull, http_port=port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http_port = 80\nhttp_prt = 81\n", "config.toml:2: there is no setting 'http_prt'; did you mean http_port?"),
        ("\n[http]\nport = 1\n", "config.toml:2: there is no setting 'http'"),
        ("rate_limit = 10\n\nhttp_port = '80'\n", "config.toml:3: http_port is '80': give a whole number from 0 to 65535; without quotes"),
        ("http_port = true\n", "http_port is True"),
        ("http_port = 1.5\n", "http_port is 1.5"),
        ("drain_s = nan\n", "give a number from 0 to 3600"),
        ("http_host = 1\n", "give a text"),
        ('log_dir = "a\\u0000b"\n', "give a path"),
        ("allowed_hosts = 'a.example'\n", "a list of texts"),
        ("allowed_hosts = [1]\n", "a list of texts"),
        ("http_port = \n", "config.toml is no TOML"),
        ("http_port = 1\nhttp_port = 2\n", "config.toml is no TOML"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_with_key_and_line(text: str, said: str, tmp_path: Path) -> None:
    assert said in _refusal({}, _file(tmp_path, text))


@pytest.mark.parametrize("given", ["secret-of-the-database = 1", '["secret-of-the-database"]', "12345678"])
def test_a_refusal_never_shows_a_secret(given: str, tmp_path: Path) -> None:
    said = _refusal(
        {}, _file(tmp_path, f"database_url = {{{given}}}" if "=" in given else f"database_url = {given}")
    )
    assert "database_url" in said
    assert "secret-of-the-database" not in said
    assert "12345678" not in said


def test_what_is_no_settings_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\0")
    (tmp_path / "long").write_text("#" * (2 << 20))
    assert "no UTF-8" in _refusal({}, str(tmp_path / "bytes"))
    assert "longer than" in _refusal({}, str(tmp_path / "long"))
    assert "cannot read" in _refusal({}, str(tmp_path))


def test_a_named_file_must_be_there_and_the_default_one_need_not(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "conf")}
    assert config.config_file(home) is None
    assert "SESSION_MGMT_CONFIG" in _refusal({"SESSION_MGMT_CONFIG": str(tmp_path / "none.toml")})
    default = tmp_path / "conf" / "session-mgmt-mcp"
    default.mkdir(parents=True)
    _file(default, "http_port = 4444\n")
    assert load(home).http_port == 4444


def test_paths_of_the_file_count_from_its_folder(tmp_path: Path) -> None:
    found = load({}, _file(tmp_path, 'log_dir = "logs"\nadmin_key_file = "/run/secrets/key"\n'))
    assert (found.log_dir, found.admin_key_file) == (str(tmp_path / "logs"), "/run/secrets/key")


def test_what_commands_read_from_variables_is_read_from_the_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, 'embedding_cache_size = 7\nvector_memory_mb = 3\nembedding_model_path = "model"\n')
    monkeypatch.setenv("SESSION_MGMT_CONFIG", path)
    monkeypatch.setattr(settings, "_look_further", None)
    before = settings.embedding_cache_size()
    settings.look_also(config.file_value)
    assert before == settings.CACHE_DEFAULT
    assert settings.embedding_cache_size() == 7
    assert settings.vector_memory_bytes() == 3 << 20
    assert settings.embedding_model_path() == tmp_path / "model"
    assert settings.max_workers() == settings.WORKERS_DEFAULT
    monkeypatch.setenv("EMBEDDING_CACHE_SIZE", "9")
    assert settings.embedding_cache_size() == 9


def test_unknown_variables_of_ours_are_named_with_what_they_may_mean() -> None:
    environ = {"SESSION_MGMT_HTTP_PROT": "1", "SESSION_MGMT_BRIEF": "off", "OTHER_HTTP_PORT": "1"}
    assert config.unknown_variables(environ) == {
        "SESSION_MGMT_HTTP_PROT": "; did you mean SESSION_MGMT_HTTP_PORT?"
    }


def test_a_reload_takes_over_limits_and_names_what_waits_for_a_restart() -> None:
    new = ServiceSettings(rate_limit=5, http_port=1, log_level="DEBUG", max_workers=2)
    assert needs_restart(ServiceSettings(), new) == ("http_port", "max_workers")
