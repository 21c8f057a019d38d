"""Other packages on the same recordings and encoder sizes, and the time to a first answer."""

import subprocess
import sys
from functools import partial
from typing import Any

from benchmarking.setting import EMOTIONS, RATE, Setting, Work

_ANSWER = {
    "torch": "from m4ser.runtimes import load_pipeline; pipe = load_pipeline(sys.argv[1])",
    "ONNX": "from modeling_m4ser.runtime_m4ser import OnnxPipeline; pipe = OnnxPipeline(sys.argv[1])",
}


def time_to_first_answer(setting: Setting, kind: str) -> Work:
    """Return a new process that imports what it needs, loads a model and answers once."""
    import soundfile

    from modeling_m4ser.audio_m4ser import load_audio

    clip = setting.clips()[0]
    path = setting.folder / "first.flac"
    soundfile.write(path, load_audio(clip["audio"]), RATE)
    folder = setting.exported() if kind == "ONNX" else str(setting.folder / "model")
    if kind == "torch":
        model, processor = setting.model("M4SER")
        model.drop_auxiliary_heads().save_pretrained(folder)
        processor.save_pretrained(folder)
    code = f"import sys; {_ANSWER[kind]}; pipe((sys.argv[2], sys.argv[3]))"
    command = [sys.executable, "-c", code, folder, str(path), clip["text"]]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def audio_classification(setting: Setting) -> Work:
    """The classifier of recordings that transformers has, on the same speech encoder."""
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

    model = AutoModelForAudioClassification.from_pretrained(setting.encoders[0], num_labels=4)
    extractor = AutoFeatureExtractor.from_pretrained(setting.encoders[0])
    pipe, waves = pipeline("audio-classification", model=model, feature_extractor=extractor), _waveforms(setting)
    return lambda: [pipe(wave()) for wave in waves]


def speechbrain(setting: Setting) -> Work:
    """SpeechBrain's recipe of emotions: wav2vec 2.0 or HuBERT, the mean over time, a linear layer."""
    import torch
    from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.pooling import StatisticsPooling

    encoder = Wav2Vec2(setting.encoders[0], str(setting.folder), freeze=True, output_norm=True).eval()
    size = encoder.model.config.hidden_size
    pool, head = StatisticsPooling(return_std=False), Linear(input_size=size, n_neurons=4).eval()
    waves = _waveforms(setting)

    @torch.no_grad()
    def work() -> list:
        return [head(pool(encoder(torch.from_numpy(wave())[None]))).softmax(-1) for wave in waves]

    return work


def funasr(setting: Setting) -> Work:
    """FunASR's emotion2vec: convolutions of its own, then as many layers as the speech encoder has, a third local."""
    import torch
    from funasr import AutoModel

    options = {"device": "cpu", "ncpu": torch.get_num_threads(), "disable_update": True, "disable_pbar": True}
    options |= {"tokenizer": "CharTokenizer", "tokenizer_conf": {"token_list": ["<unk>", *EMOTIONS]}}
    options["tokenizer_conf"]["unk_symbol"] = "<unk>"
    model = AutoModel(model="Emotion2vec", model_conf=_emotion2vec(setting.encoders[0]), **options)
    waves = _waveforms(setting)
    return lambda: [model.generate(wave(), granularity="utterance", extract_embedding=False) for wave in waves]


def _emotion2vec(encoder: str) -> dict[str, Any]:
    """Return the settings of emotion2vec's base model, with an encoder's sizes."""
    from transformers import AutoConfig

    size = AutoConfig.from_pretrained(encoder)
    heads, local = size.num_attention_heads, size.num_hidden_layers // 3
    drops = ("start_drop_path_rate", "end_drop_path_rate", "encoder_dropout", "attention_dropout", "activation_dropout")
    drops += ("post_mlp_drop", "dropout_input", "prenet_layerdrop", "prenet_dropout")
    shared: dict[str, Any] = dict.fromkeys(drops, 0.0)
    convolutions = list(zip(size.conv_dim, size.conv_kernel, size.conv_stride, strict=True))
    audio = {"extractor_mode": "layer_norm", "feature_encoder_spec": str(convolutions), "local_grad_mult": 1.0}
    audio |= {"conv_pos_width": 95, "conv_pos_depth": 5, "conv_pos_groups": size.num_conv_pos_embedding_groups}
    audio |= {"conv_pos_pre_ln": False, "num_extra_tokens": 10, "init_extra_token_zero": True, "decoder": None}
    audio |= {"prenet_depth": local, "model_depth": size.num_hidden_layers - local, "num_alibi_heads": heads}
    audio |= {"use_alibi_encoder": True, "alibi_scale": 1.0, "learned_alibi": False, "learned_alibi_scale": True}
    audio |= {"learned_alibi_scale_per_head": True, "learned_alibi_scale_per_layer": False}
    model = {"embed_dim": size.hidden_size, "depth": audio["model_depth"], "num_heads": heads, "normalize": True}
    model |= {"mlp_ratio": size.intermediate_size / size.hidden_size, "layer_norm_first": False}
    model |= {"norm_eps": 1e-5, "norm_affine": True, "modalities": {"audio": shared | audio}}
    return shared | model


def _waveforms(setting: Setting) -> list[Work]:
    from modeling_m4ser.audio_m4ser import load_audio

    return [partial(load_audio, clip["audio"]) for clip in setting.clips()]


#: Name -> what returns its answers to all recordings, one at a time; ratios are to the last.
PEERS = {
    "FunASR emotion2vec": funasr,
    "SpeechBrain": speechbrain,
    "transformers audio-classification": audio_classification,
    "M4SER, ONNX int8": lambda setting: setting.answers(1, onnx=True),
    "M4SER, torch": lambda setting: setting.answers(1),
}
