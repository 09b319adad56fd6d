"""Token ids before anything is computed: splits, lengths, and texts that are no texts."""

from __future__ import annotations

import json
import shutil

import pytest
import sentencepiece
from contract import HOSTILE, QUESTION
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.chat import ChatTemplate
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._preflight import Preflight
from evalsuite.engines._tokens import Tokens, without_surrogates
from evalsuite.errors import BadCheckpoint, BadOption
from evalsuite.request import Choose, Generate, Prompt, Sampling, Score


@pytest.fixture(scope="module")
def tokens(checkpoint_path):
    return Tokens(open_checkpoint(str(checkpoint_path)))


def preflight(tokens, context=256, rows=448):
    return Preflight(
        tokens, None, force_template=False, context=context, rows=rows, identity=["test"]
    )


def prepared(tokens, request, **limits):
    return preflight(tokens, **limits).prepare(["t/1"], [request])[0]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_ids_are_those_of_sentencepiece(tokens, checkpoint_path, text):
    """An independent implementation. Spaces at the very start are left to their own convention."""
    reference = sentencepiece.SentencePieceProcessor(
        model_file=str(checkpoint_path / "tokenizer.model")
    )
    text = "文" + text.replace("▁", " ")
    if not any(special in text for special in ("<s>", "</s>", "<unk>")):
        assert list(tokens.encode([text])[0]) == reference.encode(text)


@given(st.lists(st.text(max_size=20), max_size=5))
def test_one_batch_is_as_many_single_texts(tokens, texts):
    clean = list(map(without_surrogates, texts))
    assert tokens.encode(clean) == [tokens.encode([text])[0] for text in clean]


@given(st.text(st.characters(codec=None), max_size=40), st.text(max_size=10))
def test_any_text_can_be_asked(tokens, text, choice):
    requests = [
        Generate(Prompt(text)),
        Choose(Prompt(text), (choice, text)),
        Score(Prompt(""), text),
    ]
    for one in preflight(tokens).prepare(["a", "b", "c"], requests):
        assert one.prompt[:1] == (1,)
        assert (one.failure is None) == all(one.tails)


def test_lone_surrogates_become_the_replacement_character(tokens):
    replaced = HOSTILE.replace("\ud800", "\ufffd")
    for left, right in (
        (Generate(Prompt(HOSTILE)), Generate(Prompt(replaced))),
        (Score(Prompt("x"), HOSTILE), Score(Prompt("x"), replaced)),
    ):
        one, other = prepared(tokens, left), prepared(tokens, right)
        assert (one.prompt, one.tails, one.key) == (other.prompt, other.tails, other.key)


def test_prefix_and_text_are_read_as_one(tokens):
    whole = prepared(tokens, Generate(Prompt(QUESTION)))
    for cut in range(len(QUESTION)):
        parted = Generate(Prompt(QUESTION[cut:], prefix=QUESTION[:cut]))
        assert prepared(tokens, parted).prompt == whole.prompt


def test_spaces_before_a_choice_go_to_the_choice(tokens):
    spaced = prepared(tokens, Choose(Prompt("The quick "), ("brown",)))
    moved = prepared(tokens, Choose(Prompt("The quick"), (" brown",)))
    assert (spaced.prompt, spaced.tails) == (moved.prompt, moved.tails)


def test_an_exact_fit_fits_and_one_more_does_not(tokens):
    base = len(prepared(tokens, Choose(Prompt("气"), ("A",))).prompt) - 1
    for extra, code in ((0, None), (1, "prompt_too_long")):
        # The last token of a choice is predicted and never read: 30 + 1 tokens fit into 30.
        request = Choose(Prompt("气" * (30 - base + extra)), ("A", "B"))
        failure = prepared(tokens, request, context=30).failure
        assert (failure.code if failure else None) == code
    assert "31 tokens of prompt" in failure.message
    assert "context is 30" in failure.message


@given(st.integers(1, 80), st.integers(1, 5), st.integers(1, 5))
def test_left_truncation_keeps_what_fits_beside_the_shortest_choice(tokens, length, one, other):
    request = Choose(Prompt("气" * length, truncate="left"), ("散" * one, "散" * other))
    whole = prepared(tokens, request, context=None)
    short = prepared(tokens, request, context=20)
    total = len(whole.prompt)
    shortest, longest = sorted(map(len, whole.tails))
    assert short.tails == whole.tails
    assert short.prompt == whole.prompt[-(21 - shortest) :]
    assert short.truncated == max(0, total + longest - 21)
    assert short.failure is None


def test_without_a_context_everything_fits(tokens):
    assert prepared(tokens, Generate(Prompt("气" * 5000)), context=None).failure is None


def test_an_id_without_an_embedding_is_named(tokens):
    highest = max(prepared(tokens, Generate(Prompt("今天"))).prompt)
    failure = prepared(tokens, Generate(Prompt("今天")), rows=highest).failure
    assert failure.code == "engine_failed"
    assert str(highest) in failure.message


def test_many_requests_come_back_in_order(tokens):
    requests = [Generate(Prompt(f"题目 {number}"), Sampling()) for number in range(2500)]
    names = [f"t/{number}" for number in range(2500)]
    answers = preflight(tokens).prepare(names, requests)
    assert [one.name for one in answers] == names
    assert [one.request for one in answers] == requests
    assert answers[2345].prompt == tokens.with_lead(tokens.encode(["题目 2345"])[0])


def test_names_and_requests_must_pair_up(tokens):
    with pytest.raises(BadOption, match="1 names for 0 requests"):
        preflight(tokens).prepare(["x"], [])


@pytest.mark.parametrize(("bos", "eos"), [(True, True), (False, False), (False, True)])
def test_bos_as_the_tokenizer_wants_it_and_never_an_eos(checkpoint_path, tmp_path, bos, eos):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint_path, folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"add_bos_token": bos, "add_eos_token": eos}
    file.write_text(json.dumps(settings))
    tokens = Tokens(open_checkpoint(str(folder)))
    dressed = tokens._tokenizer("x")["input_ids"]
    assert (dressed[0] == 1, dressed[-1] == 2) == (bos, eos)  # the settings have their effect
    assert tokens.lead == ((1,) if bos else ())
    one = prepared(tokens, Choose(Prompt("今天"), ("天气",)))
    assert one.prompt[0] == 1 if bos else 1 not in one.prompt
    assert 2 not in one.prompt + one.tails[0]
    assert prepared(tokens, Score(Prompt(""), "今天")).prompt == (1,)  # something must come first
    assert prepared(tokens, Generate(Prompt(""))).prompt == (1,)


def test_a_tokenizer_with_neither_bos_nor_eos_cannot_start_from_nothing(checkpoint_path, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint_path, folder)
    tokens = Tokens(open_checkpoint(str(folder)))
    tokens.lead, tokens.start = (), None
    failure = prepared(tokens, Score(Prompt(""), "今天")).failure
    assert failure.code == "engine_failed"
    assert "BOS" in failure.message


def test_a_byte_level_tokenizer_without_bos(checkpoint_path, tmp_path):
    """The other family of tokenizers, as in BLOOM and Qwen: no BOS, no dummy space, raw bytes."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|End|>"], show_progress=False
    )
    backend.train_from_iterator([QUESTION, "The quick brown fox"], trainer)
    folder = shutil.copytree(checkpoint_path, tmp_path / "copy")
    (folder / "tokenizer.model").unlink()
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|End|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokens = Tokens(open_checkpoint(str(folder)))
    assert (tokens.lead, tokens.bos, tokens.eos) == ((), "", "<|End|>")
    assert prepared(tokens, Score(Prompt(""), "今天")).prompt == (tokens.eos_id,)
    for prompt, answer in ((QUESTION, "印度\n"), ("The quick", " brown 🙂"), ("a", "\ufffd\nb")):
        one = prepared(tokens, Choose(Prompt(prompt), (answer,)))
        assert one.prompt == tokens.encode([prompt])[0]
        assert tokens.text_after(one.prompt, one.tails[0]) == answer
    half = tokens.encode(["你\n"])[0]
    assert tokens.text_after(one.prompt, [half[0], half[-1], *half]) == "\ufffd\n你\n"


def test_a_template_that_writes_bos_twice_gets_one(tokens):
    source = "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    limits = {"force_template": False, "context": 256, "rows": 448, "identity": []}
    [ready] = Preflight(tokens, ChatTemplate("checkpoint", source), **limits).prepare(
        ["n"], [Generate(Prompt("你好"))]
    )
    assert ready.prompt.count(1) == 1
    assert ready.prompt[0] == 1


def test_a_template_that_leaves_the_question_out_is_refused(tokens):
    limits = {"force_template": False, "context": 256, "rows": 448, "identity": []}
    silent = Preflight(tokens, ChatTemplate("checkpoint", "Hello!"), **limits)
    with pytest.raises(BadCheckpoint, match="leaves the question out"):
        silent.prepare(["a", "b"], [Generate(Prompt("one")), Generate(Prompt("two"))])
