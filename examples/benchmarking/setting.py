"""The models, data and trainers that are measured."""

import argparse
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.errors import ExperimentError
from trainer.studies.parameters import ENCODER_SIZES

if TYPE_CHECKING:
    from datasets import DatasetDict

WORDS = ("i", "you", "we", "can", "not", "believe", "happy", "sad", "home", "go", "the", "it", "so", "now")
EMOTIONS = ("angry", "happy", "neutral", "sad")
RATE = 16000
#: Words in a second of speech, and the share of them that the recognizer hears wrongly.
WORDS_PER_SECOND, WORD_ERRORS = 2.5, 0.2
_CLIPS = 16
Work = Callable[[], Any]


def write_encoders(folder: str, size: str) -> tuple[str, str]:
    """Write random encoders of a size; return the folders of speech and text."""
    from transformers import AutoConfig, AutoModel, BertTokenizerFast, Wav2Vec2FeatureExtractor

    speech, text = Path(folder) / "speech", Path(folder) / "text"
    for path, kind, fields in zip((speech, text), ("hubert", "bert"), ENCODER_SIZES[size], strict=True):
        AutoModel.from_config(AutoConfig.for_model(kind, **fields)).save_pretrained(path)
    Wav2Vec2FeatureExtractor().save_pretrained(speech)
    (Path(folder) / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizerFast.from_pretrained(folder, model_max_length=512).save_pretrained(text)
    return str(speech), str(text)


def make_data(lengths: Sequence[float]) -> "DatasetDict":
    """Return utterances of noise, of these seconds and the same every time, as train, validation and test."""
    import soundfile
    from datasets import DatasetDict

    from data_scripts.schema import build_dataset

    rng, rows = np.random.default_rng(0), []
    for index, seconds in enumerate(lengths):
        file = io.BytesIO()
        soundfile.write(file, rng.normal(scale=0.1, size=int(seconds * RATE)), RATE, format="FLAC")
        spoken = rng.choice(WORDS, size=max(1, round(WORDS_PER_SECOND * seconds)))
        heard = np.where(rng.random(len(spoken)) < WORD_ERRORS, rng.choice(WORDS, size=len(spoken)), spoken)
        audio = {"path": f"clip{index}.flac", "bytes": file.getvalue()}
        row = {"id": f"clip{index}", "audio": audio, "duration": seconds, "emotion": EMOTIONS[index % len(EMOTIONS)]}
        row |= {"transcript": " ".join(spoken), "hypothesis": " ".join(heard), "asr_model": "none"}
        rows.append({**row, "speaker": None, "session": None})
    data = build_dataset(rows, EMOTIONS)
    return DatasetDict(dict.fromkeys(("train", "validation", "test"), data))


def find_clips(folder: Path) -> list[dict[str, Any]]:
    """Return the first recordings of a folder, each with a text."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac"))[:_CLIPS]
    if not found:
        raise ExperimentError(f"{folder} holds no .wav and no .flac file: name a folder with recordings.")
    return [{"audio": str(path), "text": "I can not believe it"} for path in found]


class Setting:
    """What the command line says, and what it makes: each method returns what does something once."""

    def __init__(self, options: argparse.Namespace, encoders: tuple[str, str], folder: str):
        self.options, self.encoders, self.folder = options, encoders, Path(folder)

    def model(self, row: str, **choices: Any) -> tuple[Any, Any]:
        """Return the model of an ablation and its processor; `choices` are further fields of `ModelArguments`."""
        from transformers import set_seed

        from trainer.experiments.arguments import ModelArguments
        from trainer.experiments.model import build_model

        set_seed(0)
        heads = {"num_attention_heads": 12 if self.options.size != "tiny" else 4}
        return build_model(ModelArguments(*self.encoders, row, model_options=json.dumps(heads), **choices), EMOTIONS)

    def trainer(
        self, row: str, lengths: Sequence[float], cached: bool = False, naive: bool = False, **args: Any
    ) -> Any:
        """Return a trainer on utterances of these seconds."""
        from transformers import PrinterCallback

        from trainer.arguments import ExperimentArguments
        from trainer.experiments.run import make_trainer

        model, processor = self.model(row, **({"freeze_speech_encoder": True} if cached else {}))
        fields: dict[str, Any] = {"max_steps": 1, "per_device_eval_batch_size": self.options.batch_size} | args
        arguments = ExperimentArguments(
            output_dir=str(self.folder / "run"),
            per_device_train_batch_size=self.options.batch_size,
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            disable_tqdm=True,
            cache_features=cached,
            **fields,
        )
        features = self.folder / "features"
        made = make_trainer(model, processor, make_data(lengths), arguments, features_folder=features)
        made.remove_callback(PrinterCallback)
        if naive:
            step, made.data_collator = made.training_step, be_naive(model, made.data_collator, max(lengths))

            def run_twice(trained: Any, inputs: dict[str, Any], *args) -> Any:
                outputs = trained(**made._prepare_inputs(inputs))
                made.adversary.update(outputs, outputs.logits.new_ones(()), step=False)
                return step(trained, inputs, *args)

            made.training_step = run_twice
        return made

    def training(self, row: str, lengths: Sequence[float], **choices: Any) -> Work:
        """Return a step of training, or what `choices` ask for."""
        return self.trainer(row, lengths, **choices).train

    def loading(self, lengths: Sequence[float]) -> Work:
        """Return the making of the first batch of training."""
        made = self.trainer("M4SER", lengths)
        return lambda: next(iter(made.get_train_dataloader()))

    def inference(
        self, row: str, lengths: Sequence[float], naive: bool = False, one_by_one: bool = False, compiled: bool = False
    ) -> Work:
        """Return one pass from inputs to logits: of all utterances at once, or of the next one of them."""
        import torch

        from modeling_m4ser.linear_m4ser import use_onednn
        from trainer.collator import M4SERDataCollator

        model, processor = self.model(row)
        use_onednn(model)  # as the pipeline does
        if processor.speech_input_name == "input_values":  # what reads spectrograms may not read more
            processor.max_audio_seconds = max(processor.max_audio_seconds, *lengths)
        collator, test = M4SERDataCollator(processor, model.config), list(make_data(lengths)["test"])
        collator = be_naive(model, collator, max(lengths)) if naive else collator
        if compiled:
            for encoder in (model.m4ser.speech_encoder, model.m4ser.text_encoder):
                encoder.model.compile(dynamic=True)
        parts = [[each] for each in test] if one_by_one else [test]
        inputs = [
            {name: each.to(model.device) for name, each in collator(part).items() if "label" not in name}
            for part in parts
        ]
        following = itertools.cycle(inputs)

        @torch.no_grad()
        def work() -> Any:
            return model(**next(following))["logits"].cpu()

        return work

    def clips(self) -> list[dict[str, Any]]:
        """Return the recordings that are answered, each with a text."""
        if self.options.clips is not None:
            return find_clips(self.options.clips)
        return [{"audio": row["audio"], "text": row["hypothesis"]} for row in make_data([4.5] * _CLIPS)["test"]]

    def exported(self, int8: bool = False) -> str:
        """Return the folder of the model as ONNX."""
        from modeling_m4ser.export_m4ser import export_onnx

        folder = self.folder / f"onnx{int8}"
        if not folder.is_dir():
            export_onnx(*self.model("M4SER"), folder, int8=int8)
        return str(folder)

    def answers(self, size: int, asr: str | None = None, onnx: bool = False, **choices: Any) -> Work:
        """Return the emotions of all recordings, with their texts or with those that a recognizer hears.

        They are of the model without its auxiliary heads, with `choices`; or of its ONNX graph in eight bits.
        """
        import torch

        from modeling_m4ser import SpeechTextEmotionPipeline
        from modeling_m4ser.runtime_m4ser import OnnxPipeline

        options = {} if asr is None else {"asr": asr}
        if onnx:
            pipe = OnnxPipeline(self.exported(int8=True), torch.get_num_threads(), **options)
        else:
            model, processor = self.model("M4SER", **choices)
            pipe = SpeechTextEmotionPipeline(model=model.drop_auxiliary_heads(), processor=processor, **options)
        clips = self.clips()
        inputs = clips if asr is None else [clip["audio"] for clip in clips]
        return lambda: list(pipe(inputs, batch_size=size))

    def texts(self, size: int, asr: str) -> Work:
        """Return the recognition of all recordings, from their files."""
        from modeling_m4ser.audio_m4ser import load_audio
        from modeling_m4ser.recognition_m4ser import Recognizer

        recognizer, clips = Recognizer(asr), self.clips()
        return lambda: recognizer([load_audio(clip["audio"]) for clip in clips], batch_size=size)


def be_naive(model: Any, collator: Any, longest: float) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Make a model do what needs no thought, and return a collator that pads to the longest utterance of all.

    Such padding is encoded, too, and the representations are joined over time, (B, 3m, d), before they are pooled.
    """
    import torch

    from modeling_m4ser.fusion_m4ser import masked_mean

    fusion, encoder = model.m4ser.fusion, model.m4ser.speech_encoder
    samples, fuse = int(longest * RATE), fusion.forward

    def padded(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collator(rows)
        for name in ("input_values", "speech_attention_mask") if "input_values" in batch else ():  # no log-mel frames
            batch[name] = torch.nn.functional.pad(batch[name], (0, samples - batch[name].shape[-1]))
        return batch

    def join(*args) -> Any:
        output = fuse(*args)
        parts = torch.cat([output.speech_specific, output.text_specific, output.invariant], dim=1)
        output.pooled = masked_mean(parts, output.frame_mask.repeat(1, 3))
        return output

    fusion.forward = join
    encoder._encode_by_length = encoder._encode_padded
    return padded
