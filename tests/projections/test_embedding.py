"""Texts become vectors: the shipped model's are the ones it was built for, and a model of one's own is read as it asks."""

import base64
import hashlib
import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx_kit import COLOURS, INT32, INT64, write_model

from session_mgmt_mcp.core.errors import EmbeddingError, SettingsError
from session_mgmt_mcp.projections import embedding_model
from session_mgmt_mcp.projections.embedding import Embedder, embedding_available
from session_mgmt_mcp.projections.embedding_model import SHIPPED, SHIPPED_BYTES, SHIPPED_ID, damage, model_id
from session_mgmt_mcp.tools import model_build

REFERENCE = Path(__file__).with_name("embedding_reference.json")
PAIRS = [
    ("why did the date test fail at night", "The test used local time; it passes in UTC at any hour."),
    ("parser crashes on blank lines", "Reading an empty row raised IndexError in the tokenizer loop."),
    ("which database did we choose", "We settled on Postgres, because of its row level security."),
    ("make the docker image smaller", "A multi-stage build took the container from 1.2 GB to 90 MB."),
    ("how do I bake bread", "Mix flour, water, salt and yeast; let the dough rise for an hour."),
]


@pytest.fixture(scope="module")
def shipped() -> Embedder:
    return Embedder.open(SHIPPED)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMBEDDING_MODEL_PATH", "EMBEDDING_CACHE_SIZE", "MAX_WORKERS"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("SESSION_MGMT_" + name, raising=False)


def test_the_shipped_files_are_the_recorded_ones() -> None:
    hashes = {name: hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest() for name in SHIPPED_BYTES}
    assert hashes["model.onnx"] == model_build.MODEL_SHA256
    assert hashes["tokenizer.json"] == model_build.TOKENIZER_SHA256
    assert json.loads((SHIPPED / "embed.json").read_text("utf-8")) == model_build.SETTINGS
    assert {name: (SHIPPED / name).stat().st_size for name in SHIPPED_BYTES} == SHIPPED_BYTES
    assert model_id(SHIPPED) == SHIPPED_ID
    assert damage(SHIPPED) is None
    provenance = (SHIPPED / "PROVENANCE.md").read_text("utf-8")
    for recorded in (
        model_build.MODEL_SHA256,
        model_build.TOKENIZER_SHA256,
        model_build.WEIGHTS_SHA256,
    ):
        assert recorded in provenance


def test_a_question_finds_its_answer_among_others(shipped: Embedder) -> None:
    answers = shipped.embed_passages([answer for _, answer in PAIRS])
    found = [int(np.argmax(answers @ shipped.embed_query(question))) for question, _ in PAIRS]
    assert found == list(range(len(PAIRS)))


def test_vectors_are_near_those_of_the_official_weights(shipped: Embedder) -> None:
    """The reference was made with the weights unquantised (`model_build.serialised(weights, quantised=False)`)."""
    reference = json.loads(REFERENCE.read_text("utf-8"))
    wanted = np.frombuffer(base64.b64decode(reference["vectors"]), "<f2").reshape(len(reference["texts"]), -1)
    found = shipped.embed_passages(reference["texts"])
    assert found.shape == wanted.shape == (len(reference["texts"]), 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * wanted).sum(1).min() > 0.975


def test_company_and_threads_do_not_change_a_vector(shipped: Embedder) -> None:
    texts = ["", "yes", *(text for pair in PAIRS for text in pair)]
    alone = np.vstack([shipped.embed_passages([text]) for text in texts])
    np.testing.assert_array_equal(shipped.embed_passages(texts), alone)
    np.testing.assert_array_equal(Embedder.open(SHIPPED, workers=3).embed_passages(texts), alone)
    np.testing.assert_array_equal(shipped.embed_query(texts[3]), alone[3])  # this model has no prefixes
    assert shipped.embed_passages([]).shape == (0, 384)


def test_a_text_is_read_up_to_256_tokens_and_no_further(shipped: Embedder) -> None:
    read, beyond = "word " * 200 + "bread", "word " * 254
    assert not np.array_equal(shipped.embed_query(read), shipped.embed_query("word " * 201))
    np.testing.assert_array_equal(shipped.embed_query(beyond), shipped.embed_query(beyond + "bread"))
    np.testing.assert_array_equal(shipped.embed_query(beyond), shipped.embed_query("word " * 100_000))


def test_a_known_query_is_not_computed_again_until_newer_ones_push_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMBEDDING_CACHE_SIZE", "2")
    embedder = Embedder.open(SHIPPED)
    first = embedder.embed_query("one")
    second = embedder.embed_query("two")
    assert embedder.embed_query("one") is first
    embedder.embed_query("three")  # pushes "two" out: "one" was asked for since
    assert embedder.embed_query("one") is first
    again = embedder.embed_query("two")
    assert again is not second
    np.testing.assert_array_equal(again, second)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_a_cache_of_none_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_MGMT_EMBEDDING_CACHE_SIZE", "0")
    monkeypatch.setenv("EMBEDDING_CACHE_SIZE", "7")  # the longer name wins
    embedder = Embedder.open(SHIPPED)
    assert embedder.embed_query("one") is not embedder.embed_query("one")


def test_the_environment_stays_as_it_was(shipped: Embedder) -> None:
    before = dict(os.environ)
    Embedder.open(SHIPPED).embed_passages(["a text", "another"])
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMBEDDING_CACHE_SIZE", "many"),
        ("EMBEDDING_CACHE_SIZE", "-1"),
        ("MAX_WORKERS", "0"),
        ("MAX_WORKERS", "1" * 5000),
        ("SESSION_MGMT_MAX_WORKERS", "1.5"),
    ],
)
def test_a_malformed_number_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} is .*: set it to a whole number from"):
        Embedder.open(SHIPPED)
    reason = embedding_available()
    assert reason is not None
    assert reason.startswith(name)


def test_tokens_vectors_are_averaged_and_brought_to_length_one(tmp_path: Path) -> None:
    embedder = Embedder.open(write_model(tmp_path))
    assert embedder.dimension == 8
    wanted = np.array([2, 1, 0, 0, 0, 0, 0, 0], np.float32) / np.sqrt(np.float32(5))
    np.testing.assert_allclose(
        embedder.embed_query("red green red"), wanted, rtol=1e-6
    )  # more than the file's two tokens
    np.testing.assert_array_equal(embedder.embed_query(""), np.zeros(8))


def test_embed_json_says_how_a_model_wants_to_be_used(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    settings = {"pooling": "cls", "query_prefix": "ask ", "passage_prefix": "tell "}
    (folder / "embed.json").write_text(json.dumps(settings), "utf-8")
    embedder = Embedder.open(folder)
    np.testing.assert_array_equal(embedder.embed_query("red"), COLOURS[4])
    np.testing.assert_array_equal(embedder.embed_passages(["red"]), COLOURS[5:6])
    (folder / "embed.json").write_text('{"max_tokens": 8}', "utf-8")
    cut = Embedder.open(folder)
    np.testing.assert_array_equal(cut.embed_query("red " * 8 + "blue"), COLOURS[1])


def test_a_vector_a_text_is_taken_as_it_comes(tmp_path: Path) -> None:
    embedder = Embedder.open(
        write_model(tmp_path, table=COLOURS * 3, output="sentence_embedding", first_only=True)
    )
    np.testing.assert_array_equal(embedder.embed_query("green red"), COLOURS[2])


def test_other_usual_inputs_are_fed(tmp_path: Path) -> None:
    inputs = [("input_ids", INT32), ("attention_mask", INT32), ("token_type_ids", INT64)]
    np.testing.assert_array_equal(
        Embedder.open(write_model(tmp_path, inputs=inputs)).embed_query("blue"), COLOURS[3]
    )


def test_the_setting_names_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Embedder.open().folder.shipped
    monkeypatch.setenv("EMBEDDING_MODEL_PATH", str(write_model(tmp_path)))
    assert embedding_available() is None
    assert Embedder.open().folder.path == tmp_path
    assert Embedder.open().model_id == model_id(tmp_path) != SHIPPED_ID


def test_a_model_is_known_by_its_files_alone(tmp_path: Path) -> None:
    one = write_model(tmp_path / "one")
    other = write_model(tmp_path / "other")
    assert model_id(one) == model_id(other)
    seen = {model_id(one)}
    for name in ("embed.json", "model.onnx_data"):
        (one / name).write_bytes(b"{}")
        seen.add(model_id(one))
    write_model(one, table=COLOURS * 2)
    seen.add(model_id(one))
    assert len(seen) == 4


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _torn_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"', "utf-8")


def _torn_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-40])


def _images(folder: Path) -> None:
    write_model(folder, inputs=[("pixel_values", INT64)])


def _odd_dimension(folder: Path) -> None:
    write_model(folder, table=COLOURS[:, :6].copy())


def _not_finite(folder: Path) -> None:
    write_model(folder, table=np.full_like(COLOURS, np.nan))


def _few_places(folder: Path) -> None:
    write_model(folder, places=3)


def _misspelt(folder: Path) -> None:
    (folder / "embed.json").write_text('{"max_token": 100}', "utf-8")


def _other_pooling(folder: Path) -> None:
    (folder / "embed.json").write_text('{"pooling": "last"}', "utf-8")


def _too_long(folder: Path) -> None:
    (folder / "embed.json").write_text('{"max_tokens": 100000}', "utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "there is no such folder; see that EMBEDDING_MODEL_PATH names"),
        (_no_tokenizer, "it has no tokenizer.json; see that"),
        (_torn_tokenizer, "tokenizer.json: it is no tokenizer: "),
        (_torn_model, "model.onnx: onnxruntime cannot load it: "),
        (_images, "its input pixel_values of tensor.int64. is none of input_ids"),
        (_odd_dimension, "its vectors have 6 dimensions, not a multiple of 8"),
        (_not_finite, "holds what is no number"),
        (_few_places, "failed on a text of 2 tokens: .*; set max_tokens in its embed.json"),
        (_misspelt, "embed.json: .*unknown field `max_token`.*; mend or remove it"),
        (_other_pooling, r"embed.json: .*'last'.*\$\.pooling"),
        (_too_long, r"embed.json: .* <= 2048.*\$\.max_tokens"),
    ],
)
def test_a_model_that_cannot_be_used_is_told_with_the_mend(tmp_path: Path, spoil: object, said: str) -> None:
    folder = write_model(tmp_path / "model")
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(EmbeddingError, match=said) as told:
        Embedder.open(folder).embed_passages(["red green"])
    assert str(folder) in str(told.value)


def test_a_damaged_shipped_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "shipped"
    shutil.copytree(SHIPPED, copy)
    monkeypatch.setattr(embedding_model, "SHIPPED", copy)
    assert damage() is None
    with (copy / "model.onnx").open("r+b") as file:
        file.seek(10_000_000)
        byte = file.read(1)[0]
        file.seek(10_000_000)
        file.write(bytes([byte ^ 1]))
    found = damage()
    assert found is not None
    assert "not as it was shipped; install session-mgmt-mcp again" in found
    os.truncate(copy / "tokenizer.json", 1000)
    reason = embedding_available()
    assert reason is not None
    assert (
        "tokenizer.json: it is not the file this version came with; install session-mgmt-mcp again" in reason
    )


@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers"])
def test_without_a_library_there_is_a_reason_and_the_mend(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    assert (
        embedding_available()
        == f"{module} is not installed: pip install {module}, or install session-mgmt-mcp again"
    )
