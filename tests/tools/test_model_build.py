"""The shipped model can be built again from the official weights, and from nothing else."""

import os
from pathlib import Path

import numpy as np
import pytest

from session_mgmt_mcp.projections.embedding_model import SHIPPED, SHIPPED_BYTES
from session_mgmt_mcp.tools.model_build import main, quantise

SOURCE_VARIABLE = "SESSION_MGMT_MODEL_SOURCE"


def test_whole_numbers_stay_within_half_a_step_of_the_weights() -> None:
    weights = np.random.default_rng(7).normal(size=(50, 20)).astype(np.float32)
    weights[:, 3] = 0
    weights[:, 4] *= 1e6
    numbers, scales = quantise(weights, 0)
    assert numbers.dtype == np.int8
    assert scales.shape == (1, 20)
    assert np.abs(numbers).max() == 63
    assert (np.abs(numbers * scales - weights) <= scales * 0.5001).all()
    assert not (numbers * scales)[:, 3].any()


def test_other_files_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"other weights")
    tokenizer = SHIPPED / "tokenizer.json"
    assert main([str(weights), str(tokenizer), str(tmp_path / "out")]) == 2
    assert "the official file 53aa5117" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), str(tokenizer), str(tmp_path / "out")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "example:\n  python -m session_mgmt_mcp.tools.model_build" in capsys.readouterr().out


@pytest.mark.slow
def test_building_it_again_gives_the_shipped_bytes(tmp_path: Path) -> None:
    source = os.environ.get(SOURCE_VARIABLE)
    if not source:
        pytest.skip(f"{SOURCE_VARIABLE} names no folder with model.safetensors and tokenizer.json")
    pytest.importorskip("onnx", reason="the extra `model` is not installed")
    for folder in (tmp_path / "one", tmp_path / "other"):
        assert main([f"{source}/model.safetensors", f"{source}/tokenizer.json", str(folder)]) == 0
        for name in SHIPPED_BYTES:
            assert (folder / name).read_bytes() == (SHIPPED / name).read_bytes()
