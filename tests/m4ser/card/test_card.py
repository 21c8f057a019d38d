"""The command from a run to its page."""

import json

import pytest

from m4ser.__main__ import main


@pytest.mark.slow
def test_card_of_a_run(finished_grid, tmp_path, capsys):
    run = finished_grid.folder / "M4SER" / "fold2" / "seed1"
    other = next(finished_grid.folder.glob("*concat*/fold2/seed1"))
    options = ["--baseline", str(other), "--max_rows", "2", "--output_dir", str(tmp_path)]
    assert main(["card", str(run), str(finished_grid.corpus), *options]) == 0
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    bounds = json.loads((tmp_path / "bounds.json").read_text(encoding="utf-8"))
    assert [each["check"] for each in card["checks"]] == [each["check"] for each in bounds]
    assert len(bounds) >= 300
    page = (tmp_path / "card.html").read_text(encoding="utf-8")
    assert page.count("<tr>") >= len(bounds)
    assert page.count("<img") == 4
    answered = [each for each in card["checks"] if each["check"].endswith("without an answer")]
    assert {each["verdict"] for each in answered} == {"passed"}, [each for each in answered if each["value"]]
    assert f"{len(bounds)} checks" in capsys.readouterr().out


def test_a_folder_that_is_not_prepared_is_named(tmp_path, capsys):
    assert main(["card", str(tmp_path), str(tmp_path), "--output_dir", str(tmp_path)]) == 2
    assert "prepare the corpus first" in capsys.readouterr().err
