"""What was measured is found again, whoever wrote it."""

from pathlib import Path

from quality_records import Records


def test_what_one_run_keeps_another_finds(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "new" / "a.jsonl", tmp_path / "b.jsonl"
    Records([mine]).add({"a": 1, "b": [2]}, {"psnr_y": 3.5, "ms_ssim_y": None})
    Records([theirs]).add({"a": 2}, {"psnr_y": 4.0})
    both = Records([theirs, mine])
    assert len(both) == 2
    assert both.get({"b": [2], "a": 1}) == {"psnr_y": 3.5, "ms_ssim_y": None}
    assert both.get({"a": 2}) == {"psnr_y": 4.0}
    assert both.get({"a": 1}) is None
    both.add({"a": 3}, {"psnr_y": 5.0})
    assert len(Records([mine])) == 1
    assert Records([theirs]).get({"a": 3}) == {"psnr_y": 5.0}


def test_a_line_that_was_cut_off_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    Records([path]).add({"a": 1}, {"psnr_y": 3.5})
    path.write_text(path.read_text() + '{"key": {"a": 2}, "meas')
    records = Records([path])
    assert len(records) == 1
    records.add({"a": 2}, {"psnr_y": 4.0})
    again = Records([path])
    assert again.get({"a": 1}) == {"psnr_y": 3.5}
    assert again.get({"a": 2}) == {"psnr_y": 4.0}
