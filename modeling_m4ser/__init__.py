"""M4SER for transformers: importing this package registers the model, its processor and its pipeline.

Where there is no torch or no transformers, only what needs neither is here: the ONNX runtime, audio and text.
"""

from .audio_m4ser import AudioError, load_audio, normalize_rms, trim_silence
from .edits_m4ser import CHANGE, DELETE, IGNORE_INDEX, KEEP, apply_edits
from .preparation_m4ser import normalize_text
from .runtime_m4ser import OnnxPipeline

__version__ = "0.1.0"

try:
    from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from .configuration_m4ser import PIPELINE_TASK, M4SERConfig
    from .fusion_m4ser import M4SERModelOutput
    from .modeling_m4ser import M4SERForEmotionClassification, M4SERModel, M4SEROutput
    from .pipeline_m4ser import SpeechTextEmotionPipeline
    from .processing_m4ser import M4SERProcessor
    from .words_m4ser import WordCorrection, correct_words
except ImportError as missing:
    if missing.name not in ("torch", "transformers"):
        raise
else:
    AutoConfig.register("m4ser", M4SERConfig)
    AutoModel.register(M4SERConfig, M4SERForEmotionClassification)
    AutoModelForAudioClassification.register(M4SERConfig, M4SERForEmotionClassification)
    AutoProcessor.register(M4SERConfig, M4SERProcessor)
    PIPELINE_REGISTRY.register_pipeline(
        PIPELINE_TASK,
        pipeline_class=SpeechTextEmotionPipeline,
        pt_model=AutoModelForAudioClassification,
        type="multimodal",
    )

__all__ = [
    "CHANGE",
    "DELETE",
    "IGNORE_INDEX",
    "KEEP",
    "PIPELINE_TASK",
    "AudioError",
    "M4SERConfig",
    "M4SERForEmotionClassification",
    "M4SERModel",
    "M4SERModelOutput",
    "M4SEROutput",
    "M4SERProcessor",
    "OnnxPipeline",
    "SpeechTextEmotionPipeline",
    "WordCorrection",
    "__version__",
    "apply_edits",
    "correct_words",
    "load_audio",
    "normalize_rms",
    "normalize_text",
    "trim_silence",
]
