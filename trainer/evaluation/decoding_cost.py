"""What decoding only the places with errors saves against rewriting every sentence (the paper's Section III-D)."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.correction_m4ser import places_to_rewrite

#: An id that no decoder writes.
_NEVER = -1


@torch.no_grad()
def compare_decoding(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_new_tokens: int = 16,
) -> dict[str, Any]:
    """Decode the same transcripts in both ways with the same decoder, batch by batch, one way right after the other.

    In parallel: all places of a batch that error detection marks, each until its end, at most `max_new_tokens`.
    Rewriting: one row for each utterance, for as many tokens as its batch's longest corrected transcript has, the end
    included, but no more than a text may have. (Where the decoder would end by itself is not asked: it did not learn to
    write sentences.) Encoding is common to both and not counted. `steps` are calls of the decoder; the ratios rewriting
    / parallel, `fewer_steps` and `faster`, are None where no place was decoded.
    """
    corrector, encoder = model.corrector, model.m4ser.text_encoder
    if model.detector is None or corrector is None or encoder is None:
        raise ValueError("Comparing ways to decode needs error detection and error correction.")
    model.eval()
    # Sorted, so that few rows of a batch wait for others.
    texts = sorted(texts, key=lambda text: len(processor.encode_transcript(text)))
    places, steps, seconds = 0, {"parallel": 0, "rewriting": 0}, {"parallel": 0.0, "rewriting": 0.0}

    def decode(way: str, *arguments: Any) -> None:
        """Count what one way takes; the results come as lists, so that a GPU has finished."""

        def count(*_: Any) -> None:
            steps[way] += 1

        hook, started = corrector.layer.register_forward_pre_hook(count), time.perf_counter()
        corrector.generate(*arguments)
        seconds[way] += time.perf_counter() - started
        hook.remove()

    for start in range(0, len(texts), batch_size):
        inputs = processor(text=list(texts[start : start + batch_size])).to(model.device)
        ids = inputs["input_ids"]
        hidden, mask = model.m4ser.encode_text(ids, inputs["text_attention_mask"])
        corrections = model.correct_transcripts(ids, mask, max_new_tokens, threshold=0.0)
        rows, _ = places_to_rewrite(model.detector(hidden), mask)
        places += len(rows)
        decode("parallel", rows, ids, hidden, mask, encoder, max_new_tokens)
        whole, _ = places_to_rewrite(None, mask)
        endless = ids.scatter(1, mask.sum(-1, keepdim=True) - 1, _NEVER)
        longest = 1 + max(len(correction.corrected_ids) for correction in corrections)
        longest = min(longest, processor.max_text_length)  # the encoder's embedding has no further positions
        decode("rewriting", whole, endless, hidden, mask, encoder, longest)
    return {
        "utterances": len(texts),
        "places": places,
        "batch_size": batch_size,
        **{way: {"steps": steps[way], "seconds": round(seconds[way], 3)} for way in steps},
        "fewer_steps": steps["rewriting"] / steps["parallel"] if steps["parallel"] else None,
        "faster": seconds["rewriting"] / seconds["parallel"] if steps["parallel"] else None,
    }
