"""The environment in, one validated value out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinkworker.config import Config, Secret, environment, load, without_password
from sinkworker.config_report import as_json, as_table, report
from sinkworker.errors import Invalid


def test_nothing_set_gives_the_defaults() -> None:
    assert load({"PATH": "/bin", "HOME": "/root"}) == Config()


def test_an_empty_variable_counts_as_none() -> None:
    assert load({"SINKWORKER_API_PORT": "", "REDIS_URL": ""}) == Config()


def test_values_are_parsed() -> None:
    config = load({"SINKWORKER_API_PORT": "9000", "SINKWORKER_CLAIM_LEASE_S": "5", "SINKWORKER_DATA_DIR": "/data"})
    assert (config.api_port, config.claim_lease_s, config.data_dir) == (9000, 5.0, Path("/data"))


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(Invalid) as raised:
        load(
            {
                "SINKWORKER_API_PORT": "many",
                "SINKWORKER_LANE_DEPTH": "0",
                "SINKWORKER_BATCHSIZE": "3",
                "REDIS_URL": "cache:6379",
                "KURRENTDB_URI": "http://db",
                "KAFKA_BOOTSTRAP_SERVERS": "kafka",
                "SINKWORKER_LOG_LEVEL": "loud",
                "SINKWORKER_ACTIVATION_S": "soon",
            }
        )
    for name in (
        "SINKWORKER_API_PORT must be a whole number",
        "SINKWORKER_LANE_DEPTH must be between 1 and 1024",
        "SINKWORKER_BATCHSIZE is no variable",
        "REDIS_URL must start with redis://",
        "KURRENTDB_URI must start with kurrentdb://",
        "KAFKA_BOOTSTRAP_SERVERS must be HOST:PORT",
        "SINKWORKER_LOG_LEVEL must be DEBUG",
        "SINKWORKER_ACTIVATION_S must be a number",
    ):
        assert name in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KURRENTDB_URI", "kdb://db"),
        ("KURRENTDB_URI", "kurrentdb://admin:p@ss@one.example:2113,two.example:65535?tls=true"),
        ("KURRENTDB_URI", "kurrentdb+discover://db.example?tls=false"),
        ("KURRENTDB_URI", "kdb://[::1]:2113?Tls=false"),
        ("REDIS_URL", "redis://:hunter2@cache:1"),
        ("REDIS_URL", "rediss://user:pa%23ss@cache.example:6380/15?ssl_cert_reqs=none"),
        ("REDIS_URL", "redis://cache/"),
        ("REDIS_URL", "sentinel://:pw@one.example:26379,two.example/0?master_name=cache"),
        ("KAFKA_BOOTSTRAP_SERVERS", "one.example:9092, [::1]:9093"),
        ("KAFKA_BOOTSTRAP_SERVERS", "SASL_SSL://one.example:9092"),
    ],
)
def test_an_address_may_have_any_form_that_its_clients_take(name: str, value: str) -> None:
    load({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KURRENTDB_URI", "kdb://127.0.0.1:99999999?Tls=false"),
        ("KURRENTDB_URI", "kdb://one:2113,two:x"),
        ("KURRENTDB_URI", "kdb://?Tls=false"),
        ("REDIS_URL", "redis://h:x/0"),
        ("REDIS_URL", "redis://:hunter2#@h:6379/0"),
        ("REDIS_URL", "redis://h:0/0"),
        ("REDIS_URL", "redis://h:65536/0"),
        ("REDIS_URL", "redis://[::1/0"),
        ("REDIS_URL", "redis://h:6379/cache"),
        ("REDIS_URL", "redis+cluster://h:6379/1"),
        ("REDIS_URL", "redis+cluster://:hunter2@h:x"),
        ("SINKWORKER_BROKER_URL", "redis+cluster://:hunter2@h:6379"),
        ("SINKWORKER_BROKER_URL", "amqp://:hunter2@h"),
        ("REDIS_URL", "redis://one:6379,two:6379/0"),
        ("REDIS_URL", "redis://h:6379/0?password=hunter2"),
        ("REDIS_URL", "redis://h:6379/0?ssl_ca_certs=/ca.pem"),
        ("REDIS_URL", "redis://h:6379/0#hunter2"),
        ("REDIS_URL", "rediss://h:6379/0?ssl_ca_certs=/nowhere/hunter2"),
        ("REDIS_URL", "rediss://h:6379/0?ssl_cert_reqs=optional"),
        ("REDIS_URL", "rediss://h:6379/0?ssl_check_hostname=0"),
        ("REDIS_URL", "sentinel://h:26379/0"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:99999"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,"),
    ],
)
def test_an_address_that_leads_nowhere_is_named_by_its_variable_and_its_rule(name: str, value: str) -> None:
    with pytest.raises(Invalid, match=rf"^{name} must ") as raised:
        load({name: value})
    assert raised.value.exit_code == 2
    assert "hunter2" not in str(raised.value)


def test_variables_of_the_tests_are_nobody_elses_business() -> None:
    load({"SINKWORKER_TEST_SCHEDULES": "7"})


def test_a_claim_outlasts_the_work_under_it() -> None:
    with pytest.raises(Invalid, match="SINKWORKER_CLAIM_LEASE_S must be longer"):
        load({"SINKWORKER_CLAIM_LEASE_S": "2", "SINKWORKER_ACTIVATION_S": "2"})


def test_a_secret_does_not_show_itself() -> None:
    config = load({"REDIS_URL": "redis://:hunter2@cache:6379/0"})
    assert "hunter2" not in f"{config} {config!r} {config.redis_url}"
    assert config.redis_url == Secret("redis://:hunter2@cache:6379/0")


@pytest.mark.check("A57")
def test_the_file_s_token_counts_alone_and_loses_its_last_line_breaks(tmp_path: Path) -> None:
    """A57"""
    file = tmp_path / "token"
    file.write_bytes(b" of the file\n \r\n\n")
    environ = {"SINKWORKER_DATA_PROTECTION_TOKEN": "of the variable "}
    assert load(environ).protection_token() == Secret("of the variable ")
    config = load({**environ, "SINKWORKER_DATA_PROTECTION_TOKEN_FILE": str(file)})
    assert config.protection_token() == Secret(" of the file\n ")
    assert "of the" not in repr(config)
    assert load({}).protection_token() is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file or directory"), (b"\n", "without a token"), (b"\xff", "UTF-8")],
)
def test_a_token_file_that_gives_no_token_ends_the_start(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A57"""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid, match=rf"^SINKWORKER_DATA_PROTECTION_TOKEN_FILE .*{reason}") as raised:
        load({"SINKWORKER_DATA_PROTECTION_TOKEN_FILE": str(file), "SINKWORKER_DATA_PROTECTION_TOKEN": "hunter2"})
    assert raised.value.exit_code == 2
    assert "hunter2" not in str(raised.value)


def test_a_token_is_shown_nowhere() -> None:
    environ = {"SINKWORKER_DATA_PROTECTION_TOKEN": "redis://hunter2"}
    rows = report(environ, lambda _: "environment")
    assert "hunter2" not in as_table(rows) + as_json(rows) + repr(load(environ))
    assert next(row.value for row in rows if row.name == "SINKWORKER_DATA_PROTECTION_TOKEN") == "***"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0"),
        ("kurrentdb://admin:p@ss@db:2113?tls=true", "kurrentdb://***@db:2113?tls=true"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        (
            "sentinel://u:hunter2@one,two/0?sentinel_password=hunter2&master_name=cache",
            "sentinel://***@one,two/0?sentinel_password=***&master_name=cache",
        ),
    ],
)
def test_an_address_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_the_environment_outranks_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SINKWORKER_API_PORT=9001\nREDIS_URL=redis://file:1/0\n")
    monkeypatch.setenv("SINKWORKER_API_PORT", "9002")
    monkeypatch.delenv("REDIS_URL", raising=False)
    found = environment()
    assert (found["SINKWORKER_API_PORT"], found["REDIS_URL"]) == ("9002", "redis://file:1/0")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"API_USER": "clerk"}, "SINKWORKER_API_USER needs SINKWORKER_API_PASSWORD or SINKWORKER_API_PASSWORD_FILE"),
        ({"API_PASSWORD": "x"}, "SINKWORKER_API_USER needs"),
        ({"API_PASSWORD_FILE": "/nowhere"}, "SINKWORKER_API_USER needs"),
        ({"API_USER": "cl:erk", "API_PASSWORD": "x"}, "SINKWORKER_API_USER may have no colon"),
        ({"API_KEY": "/key"}, "SINKWORKER_API_CERTIFICATE and SINKWORKER_API_KEY need each other"),
        ({"API_CERTIFICATE": "/certificate"}, "SINKWORKER_API_CERTIFICATE and SINKWORKER_API_KEY need each other"),
    ],
)
def test_what_the_api_needs_two_of_is_not_taken_alone(environ: dict[str, str], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        load({f"SINKWORKER_{name}": text for name, text in environ.items()})


def test_the_files_of_the_api_need_not_be_there_for_others() -> None:
    files = {"API_PASSWORD_FILE": "/nowhere", "API_CERTIFICATE": "/nowhere", "API_KEY": "/nowhere"}
    config = load({f"SINKWORKER_{name}": text for name, text in {"API_USER": "clerk", **files}.items()})
    with pytest.raises(Invalid, match="SINKWORKER_API_PASSWORD_FILE names a file that cannot be read"):
        config.password_of_api()


def test_the_password_of_the_api_shows_nowhere() -> None:
    config = load({"SINKWORKER_API_USER": "clerk", "SINKWORKER_API_PASSWORD": "correct-horse"})
    assert "correct-horse" not in repr(config)
    shown = report({"SINKWORKER_API_USER": "clerk", "SINKWORKER_API_PASSWORD": "correct-horse"}, lambda _: "default")
    assert "correct-horse" not in repr(shown)


def test_a_cluster_needs_a_broker_of_its_own() -> None:
    cluster = {"REDIS_URL": "redis+cluster://one:7000,two:7000"}
    with pytest.raises(Invalid, match="SINKWORKER_BROKER_URL must name a Redis"):
        load(cluster)
    config = load({**cluster, "SINKWORKER_BROKER_URL": "sentinel://:hunter2@one/0?master_name=queue"})
    assert config.broker_url is not None
    assert "hunter2" not in f"{config!r} {config.broker_url}"
