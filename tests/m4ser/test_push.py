"""`m4ser push`."""

import pytest

import trainer.experiments.hub
from m4ser.__main__ import main


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], {"full": False, "private": None, "revision": None}),
        (["--full", "--private", "--revision", "v2"], {"full": True, "private": True, "revision": "v2"}),
    ],
)
def test_options_reach_the_push(monkeypatch, capsys, flags, options):
    def push_run(folder, repository, **given):
        assert (folder, repository, given) == ("run", "me/m", options)
        return "an address"

    monkeypatch.setattr(trainer.experiments.hub, "push_run", push_run)
    assert main(["push", "run", "me/m", *flags]) == 0
    assert capsys.readouterr().out == "pushed to an address\n"


def test_what_is_no_run_is_not_pushed(tmp_path, capsys):
    assert main(["push", str(tmp_path), "me/m"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is no finished run: it has no results.json.\n"
