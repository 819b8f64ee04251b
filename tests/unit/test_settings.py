"""The settings: defaults that serve, sentences that help."""

import tomllib
from pathlib import Path

import pytest

from tests.keys import keys
from triage import settings
from triage.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path):
    def _write(text: str) -> Path:
        path = tmp_path / "triage.toml"
        path.write_text(text)
        return path

    return _write


def test_the_shipped_file_holds_exactly_the_defaults():
    shipped = settings.load(ROOT / "config" / "triage.toml")
    assert shipped == settings.Settings()


def test_the_shipped_file_explains_every_key():
    text = (ROOT / "config" / "triage.toml").read_text()
    section = ""
    explained = set()
    for line in text.splitlines():
        bare = line.lstrip("# ")
        if bare.startswith("["):
            section = bare.split("]")[0].strip("[] ")
        elif "=" in bare:
            explained.add(f"{section}.{bare.split('=')[0].strip()}")
    missing = {key for key, _ in keys(settings.Settings)} - explained
    assert not missing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[listner]\nport = 1\n", "'listner'.*Did you mean 'listener'"),
        ("[listener]\nprot = 1\n", "'listener.prot'.*Did you mean 'port'"),
        ("[[peer]]\nhots = 'a'\n", "'peer.0.hots'.*Did you mean 'host'"),
        ("[listener]\nae_title = 'A\\\\B'\n", None),
        ("[listener]\nae_title = 'SEVENTEEN_LETTERS'\n", "AE title"),
        ("[listener]\nae_title = ''\n", "AE title"),
        ("[listener]\nport = 70000\n", "'listener.port'"),
        ("[[peer]]\nhost = 'nowhere'\n", "'peer.0.host'"),
        ("[[peer]]\ncount_at = 'X@h:99999'\n", "'peer.0.count_at'.*65535"),
        ("[[peer]]\ncount_at = 'X@h:0'\n", "'peer.0.count_at'.*65535"),
        ("[[peer]]\ncount_at = 'h:104'\n", "'peer.0.count_at'.*AE@HOST:PORT"),
        ("[[peer]]\ncount_at = 'X@:104'\n", "'peer.0.count_at'.*AE@HOST:PORT"),
        ("[[peer]]\ncount_at = 'SEVENTEEN_LETTERS@h:104'\n", "'peer.0.count_at'.*AE title"),
        (
            "[[destination]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\nport = 104\nresults = ['sr', 'gsps']\n",
            "'gsps'.*'sr', 'text_sr' or 'ko'",
        ),
        (2 * "[[destination]]\nname = 'pacs'\nae_title = 'A'\nhost = 'h'\nport = 104\n", "called 'pacs'"),
        ("[study\n", "not valid TOML"),
    ],
)
def test_a_wrong_configuration_is_one_sentence_that_names_the_key(write, text, expected):
    with pytest.raises(ConfigurationError, match=expected) as caught:
        settings.load(write(text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_archive_that_counts_is_taken_as_it_is_written(write):
    found = settings.load(write("[[peer]]\ncount_at = 'ARCHIVE@pacs.example:104'\n"))
    assert found.peer[0].count_at == "ARCHIVE@pacs.example:104"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing\.toml"):
        settings.load(tmp_path / "missing.toml")


def test_the_environment_wins_over_the_file(write, monkeypatch):
    monkeypatch.setenv("TRIAGE__LISTENER__PORT", "4242")
    assert settings.load(write("[listener]\nport = 1\n")).listener.port == 4242


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (
            "TRIAGE__STUDY__COMPLETE_ON",
            "quiet",
            r"'study\.complete_on'.*COMPLETE_ON can't be 'quiet'.*as JSON",
        ),
        ("TRIAGE__UPS__CLIENTS", "A,B", r"'ups\.clients'.*as JSON"),
        ("TRIAGE__STUDY__COMPLETE_ON", '["quite"]', r"complete_on\.0' in the variable.*'quiet'"),
        ("TRIAGE__LISTENER__TLS", "cert.pem", r"'listener\.tls'"),
        ("TRIAGE__LISTENER__PORT", "many", r"'listener\.port' in the variable TRIAGE__LISTENER__PORT"),
    ],
)
def test_a_wrong_variable_is_one_sentence_that_names_the_setting(
    write, monkeypatch, variable, value, expected
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=expected) as caught:
        settings.load(write(""))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_list_in_a_variable_is_written_as_json(write, monkeypatch):
    monkeypatch.setenv("TRIAGE__STUDY__COMPLETE_ON", '["quiet", "mpps"]')
    assert settings.load(write("")).study.complete_on == ("quiet", "mpps")


def test_a_misspelt_variable_is_an_error(write, monkeypatch):
    monkeypatch.setenv("TRIAGE__LISTNER__PORT", "4242")
    with pytest.raises(ConfigurationError, match="TRIAGE__LISTENER__"):
        settings.load(write(""))


def test_the_data_folder_is_filled_into_the_database_url(write):
    loaded = settings.load(write("[site]\ndata_dir = '/srv/x'\n"))
    assert loaded.database_url == "sqlite:////srv/x/triage.db"


def test_a_policy_with_an_unknown_finding_names_the_nearest(write):
    path = write("[minutes]\ntuberculosys = 3\n")
    with pytest.raises(ConfigurationError, match="Did you mean 'tuberculosis'"):
        settings.read_policy(path)


def test_a_policy_with_a_negative_advance_is_refused(write):
    with pytest.raises(ConfigurationError, match=r"minutes\.urgent"):
        settings.read_policy(write("[minutes]\nurgent = -5\n"))


def test_the_shipped_policy_is_the_built_in_one():
    path = ROOT / "config" / "policy.toml"
    assert tomllib.loads(path.read_text())
    assert settings.read_policy(path).digest == settings.Policy().digest
