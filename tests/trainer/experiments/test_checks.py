"""What can be known before the first recording is read stops a run then: nothing is decoded, nothing recognised."""

import re
import shutil
from collections import namedtuple
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import soundfile
from transformers import AutoModel, GPT2Config

from data_scripts.errors import UserError
from data_scripts.prepare import recordings
from tests.data_scripts.transcribe.helpers import make_tiny_whisper
from tests.helpers.experiments import experiment_arguments
from tests.helpers.layouts import make_iemocap
from tests.helpers.process import run_example_here
from tests.helpers.tiny import tiny_tokenizer
from trainer.experiments import data
from trainer.experiments.arguments import CorpusArguments, RunArguments
from trainer.experiments.checks import check_experiment, check_setup
from trainer.experiments.protocols import OWN_SPLIT, own_split
from trainer.experiments.run_folder import RESULTS_FILE

TEXTS = ("hypothesis", "transcript")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return make_tiny_whisper(tmp_path_factory.mktemp("whisper"), 1, positions=8)


@pytest.fixture
def unheard(monkeypatch):
    """Decoding and recognition are not allowed."""

    def never(*_, **__):
        raise AssertionError("a recording was read")

    for name in ("decode_audio", "load_audio"):
        monkeypatch.setattr(recordings, name, never)
    monkeypatch.setattr("data_scripts.transcribe.dataset.load_audio", never)
    monkeypatch.setattr(data, "WhisperRecognizer", never)


def rewrite(folder, dropped=(), **columns):
    table = pd.read_csv(folder / "manifest.csv").drop(columns=list(dropped)).assign(**columns)
    table.to_csv(folder / "manifest.csv", index=False)


def split_thrice(folder, dropped=TEXTS):
    rewrite(folder, dropped, split=[("train", "validation", "test")[number // 6] for number in range(18)])


nothing = partial(rewrite, dropped=TEXTS)


def changed_text_encoder(folder, tiny, change):
    place = folder.parent / "text"
    shutil.copytree(tiny.text_encoder, place)
    change(place)
    return ["--text_encoder", place]


def without_weights(folder, tiny):
    return changed_text_encoder(folder, tiny, lambda place: (place / "model.safetensors").unlink())


def without_vocabulary(folder, tiny):
    return changed_text_encoder(folder, tiny, lambda place: [file.unlink() for file in place.glob("*[tv]o[kc]*")])


def gpt(folder, tiny):
    def change(place):
        config = GPT2Config(n_embd=24, n_layer=1, n_head=2, vocab_size=100)
        AutoModel.from_config(config).save_pretrained(place)
        tiny_tokenizer(place).save_pretrained(place)

    return changed_text_encoder(folder, tiny, change)


def in_the_way(folder, tiny):
    (folder.parent / "file").write_text("")
    return ["--output_dir", folder.parent / "file" / "out"]


ASR = ("--asr_model", "WHISPER")
OPTIONS = '{"num_attention_heads": 4, "contrastive_wieght": 1}'
EARLY = [
    # The corpus
    (partial(rewrite, dropped=[*TEXTS, "speaker"]), ASR, "18 of 18 rows have no speaker.*--split_by utterance"),
    (nothing, (*ASR, "--num_folds", 5), "5 folds need as many speakers; the dataset has 3"),
    (nothing, (*ASR, "--num_folds", 3, "--folds", 4), "There is no fold 4"),
    (split_thrice, (*ASR, "--folds", 2), "its own split, which is one fold"),
    (split_thrice, (*ASR, "--strict", "true"), "the splits leak: 3 speakers"),
    (partial(rewrite, dropped=TEXTS, emotion="sad"), ASR, "All training rows have one emotion, sad"),
    (nothing, (*ASR, "--emotions", "sad", "furious"), "has no emotion furious"),
    (nothing, (*ASR, "--label_column_name", "mood"), "mood"),
    # Texts and the recogniser
    (nothing, (), "18 of 18 utterances have no hypothesis.*--asr_model"),
    (nothing, ("--text_column", "transcript", *ASR), "have no transcript"),
    (nothing, ("--asr_model", "no/such/model/folder"), "speech recogniser: there is no folder"),
    (nothing, ("--asr_model", "TEXT"), "is not a Whisper but a 'bert' model"),
    (nothing, (*ASR, "--asr_language", "de"), "is English-only; language 'de'"),
    (nothing, ("--hypotheses", "nowhere.csv"), "cannot read hypotheses"),
    # The model
    (nothing, (*ASR, "--speech_encoder", "TEXT"), "--speech_encoder .*text: 'bert' is no speech encoder"),
    (nothing, (*ASR, "--text_encoder", "SPEECH"), "--text_encoder .*speech is a whisper model, which reads input"),
    (nothing, (*ASR, "--text_encoder", "nobody/nothing"), "--text_encoder nobody/nothing cannot be loaded"),
    (
        nothing,
        (*ASR, "--text_encoder", "/no/such/encoder"),
        "/no/such/encoder cannot be loaded: there is no such folder",
    ),
    (nothing, (*ASR, without_weights), "--text_encoder .*text: .*none of its weights"),
    (nothing, (*ASR, without_vocabulary), "--text_encoder .*its tokenizer has no vocabulary"),
    (nothing, (*ASR, gpt), "Error correction reuses the text encoder's embeddings, and GPT2Model has none"),
    (nothing, (*ASR, "--model_options", OPTIONS), "'contrastive_wieght': did you mean 'contrastive_weight'"),
    (nothing, (*ASR, "--speech_options", '{"encoder_layerdrp": 0.1}'), "did you mean 'encoder_layerdrop'"),
    (nothing, (*ASR, "--freeze_speech_layers", 9), "Cannot freeze 9 layers"),
    (nothing, ("--ablation", "only speech", "--transcript_noise", 0.2), "errors in texts, and this model reads none"),
    # Training, the machine and the folder
    (nothing, (*ASR, "--metric_for_best_model", "f1"), "metric_for_best_model 'f1' is not measured.*macro_f1"),
    (nothing, (*ASR, "--cache_features", "true"), "cache_features needs --freeze_speech_encoder"),
    (nothing, (*ASR, "--fp16", "true"), "fp16 needs a GPU"),
    (nothing, (*ASR, in_the_way), "--output_dir .*file is a file"),
    (nothing, (*ASR, "--output_dir", "/proc/out"), "--output_dir /proc/out: nothing can be written into /proc"),
]


@pytest.mark.parametrize(("change", "options", "message"), EARLY, ids=[message[:40] for _, _, message in EARLY])
def test_it_is_said_before_a_recording_is_read(
    corpus, encoders, tiny, whisper, unheard, capsys, change, options, message
):
    change(corpus)
    named = {"WHISPER": whisper, "TEXT": tiny.text_encoder, "SPEECH": tiny.speech_encoder}
    given = [word for each in options for word in (each(corpus, tiny) if callable(each) else [named.get(each, each)])]
    usual = ["--data_dir", corpus, "--output_dir", corpus.parent / "out", "--num_folds", 3, *encoders]
    usual += ["--model_options", '{"num_attention_heads": 4}']
    run_example_here("run_custom.py", *usual, *given, status=2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.search(message, line), line
    assert not (corpus.parent / "out").exists()


def test_one_model_that_reads_texts_may_have_noise_in_them(tiny, tmp_path):
    """In a grid whose rows share the noise, those that read none are left without."""
    noisy = replace(tiny, transcript_noise=0.2)
    deaf = replace(noisy, ablation="only speech")
    assert len(check_setup([deaf, noisy], experiment_arguments(tmp_path / "out"))) == 2
    with pytest.raises(UserError, match="this model reads none"):
        check_setup([deaf, replace(deaf, transcript_noise=None)], experiment_arguments(tmp_path / "out"))


def plan(corpus, model, folder, *others, seeds=None, **changes):
    """The checks of a corpus with splits of its own."""
    runs = RunArguments(seeds=seeds)
    args = experiment_arguments(folder, **changes)
    arguments = CorpusArguments(data_dir=str(corpus))
    check_experiment(arguments, [model, *others], runs, args, lambda dataset: own_split(dataset, runs))


def test_every_model_and_every_seed_is_checked(corpus, tiny, tmp_path):
    split_thrice(corpus, dropped=["transcript"])
    plan(corpus, tiny, tmp_path / "out", seeds=[1, 2])
    with pytest.raises(UserError, match="have no transcript"):
        plan(corpus, tiny, tmp_path / "out", replace(tiny, text_column="transcript"))
    results = tmp_path / "out" / OWN_SPLIT / "seed2" / RESULTS_FILE
    results.parent.mkdir(parents=True)
    results.write_text("{}")
    with pytest.raises(UserError, match="seed2 holds results without"):
        plan(corpus, tiny, tmp_path / "out", seeds=[1, 2])


def test_a_text_may_lack_where_the_recording_cannot_be_used(corpus, tiny, tmp_path):
    """Such rows are dropped, so that they are no reason to stop; any other is."""
    split_thrice(corpus, dropped=())
    table = pd.read_csv(corpus / "manifest.csv")
    soundfile.write(corpus / table["audio"][4], np.zeros(800), 16000)
    (corpus / table["audio"][8]).write_bytes(b"RIFF, or not")
    rewrite(corpus, hypothesis=[None if number in (4, 8) else "heard" for number in range(18)])
    plan(corpus, tiny, tmp_path / "out")
    rewrite(corpus, hypothesis=[None if number in (4, 8, 9) else "heard" for number in range(18)])
    with pytest.raises(UserError, match="3 of 18 utterances have no hypothesis"):
        plan(corpus, tiny, tmp_path / "out")


def test_the_disk_must_hold_models_checkpoints_and_recordings(corpus, tiny, tmp_path, monkeypatch):
    """206,988 parameters: a run leaves a checkpoint of three times their bytes and the model; one checkpoint more."""
    split_thrice(corpus, dropped=())
    free = namedtuple("Usage", "free")
    size, most = 4 * 206_988, 5_000_000  # of the FLAC in 10 minutes, which the headers of 5 of 18 files tell
    monkeypatch.setattr("trainer.experiments.checks._SAMPLED", 5)
    several, averaged = {"seeds": [1, 2]}, {"ema_decay": 0.9}  # each seed leaves as much; each checkpoint one more
    cases = [(size * 7, 0, {}, True), (size * 6, 0, {}, False), (size * 7 + most, 600, {}, False)]
    cases[2:2] = [(size * 11, 0, several, True), (size * 9, 0, several, False)]
    cases[2:2] = [(size * 9, 0, averaged, True), (size * 7, 0, averaged, False)]
    finished = tmp_path / "out" / "other" / "results.json"
    finished.parent.mkdir(parents=True)
    finished.touch()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free(size * 7))
    plan(corpus, tiny, tmp_path / "out", **several)  # one of the two runs leaves nothing more
    finished.unlink()
    for room, seconds, options, fits in cases:
        monkeypatch.setattr(shutil, "disk_usage", lambda place, room=room: free(room))
        if seconds:
            for file in corpus.glob("*.flac"):
                soundfile.write(file, np.zeros(8000 * seconds // 18), 8000)
        told = pytest.raises(UserError, match=r"--output_dir .*out: about .* GB will be written")
        with nullcontext() if fits else told:
            plan(corpus, tiny, tmp_path / "out", **options)


def test_iemocap_without_a_session_is_refused_before_it_is_read(encoders, whisper, unheard, tmp_path, capsys):
    release = make_iemocap(tmp_path / "release")
    for wav in (release / "Session3").rglob("*.wav"):
        wav.unlink()
    options = ["--data_dir", release, "--output_dir", tmp_path / "out", *encoders, "--asr_model", whisper]
    run_example_here("run_iemocap.py", *options, "--model_options", '{"num_attention_heads": 4}', status=2)
    assert "no usable utterance of session 3" in capsys.readouterr().err
