"""The rows of Tables IV and V, by what each leaves out of the full model."""

import pytest

from modeling_m4ser import M4SERConfig
from tests.helpers.tiny import tiny_model
from trainer.experiments.ablations import ABLATIONS

MSR, MIR = "use_modality_specific", "use_modality_invariant"
AED, AEC = "use_error_detection", "use_error_correction"
GAN, LCL = "use_adversarial", "use_contrastive"
SWITCHES = (MSR, MIR, AED, AEC, GAN, LCL)
#: Row -> (modalities, fusion, the switches that are off).
ROWS = {
    "M4SER": ("speech_text", "m4ser", set()),
    "only speech": ("speech", "concat", {MSR, MIR, AED, AEC, GAN, LCL}),
    "only text": ("text", "concat", {MSR, MIR, AED, AEC, GAN, LCL}),
    "speech & text + concat": ("speech_text", "concat", {MSR, MIR, AED, AEC, GAN, LCL}),
    "w/o MSR": ("speech_text", "m4ser", {MSR}),
    "w/o MIR": ("speech_text", "m4ser", {MIR, GAN}),
    "w/o MSR & MIR": ("speech_text", "concat", {MSR, MIR, GAN}),
    "w/o AED": ("speech_text", "m4ser", {AED}),
    "w/o AEC": ("speech_text", "m4ser", {AEC}),
    "w/o AED & AEC": ("speech_text", "m4ser", {AED, AEC}),
    "w/o GAN": ("speech_text", "m4ser", {GAN}),
    "w/o LCL": ("speech_text", "m4ser", {LCL}),
    "w/o GAN & LCL": ("speech_text", "m4ser", {GAN, LCL}),
    "+ MSR & MIR": ("speech_text", "m4ser", {AED, AEC, GAN, LCL}),
}


def test_every_row_of_the_tables_is_there():
    assert list(ABLATIONS) == list(ROWS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_row_has_no_parameters_of_what_it_leaves_out(name):
    modalities, fusion, off = ROWS[name]
    config = M4SERConfig(**ABLATIONS[name])
    assert (config.modalities, config.fusion) == (modalities, fusion)
    assert {switch for switch in SWITCHES if not getattr(config, switch)} == off
    parts = {AED: {"detector"}, AEC: {"corrector"}, GAN: {"discriminator"}, LCL: set()}
    parts[MSR] = {
        f"m4ser.fusion.{part}_key" for part in ("speech_query_text", "speech_query_token", "text_query_speech")
    }
    parts[MIR] = {"m4ser.fusion.joint_projection", "m4ser.fusion.generator"}
    expected = {"classifier", *(f"m4ser.{modality}_encoder" for modality in modalities.split("_"))}
    expected |= set().union(*(part for switch, part in parts.items() if switch not in off))
    expected |= {"m4ser.fusion.joint_projection"} if (modalities, fusion) == ("speech_text", "concat") else set()
    parameters = [key for key, _ in tiny_model("whisper", **ABLATIONS[name]).named_parameters()]
    assert {_group(parameter) for parameter in parameters} == expected


def _group(parameter):
    """A parameter's module: `classifier`, `m4ser.speech_encoder`, `m4ser.fusion.generator`."""
    parts = parameter.split(".")
    return ".".join(parts[: 1 if parts[0] != "m4ser" else 3 if parts[1] == "fusion" else 2])
