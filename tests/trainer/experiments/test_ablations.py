"""The rows of Tables IV and V, by what each leaves out of the full model."""

import ast
import sys
from pathlib import Path

import pytest

from modeling_m4ser import M4SERConfig
from tests.helpers.tiny import tiny_model
from trainer.experiments import ablations
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
def test_row_leaves_out_what_its_name_says(name):
    modalities, fusion, off = ROWS[name]
    config = M4SERConfig(**ABLATIONS[name])
    assert (config.modalities, config.fusion) == (modalities, fusion)
    assert {switch for switch in SWITCHES if not getattr(config, switch)} == off


def test_the_table_needs_no_heavy_import():
    tree = ast.parse(Path(ablations.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


#: Groups of parameters by the module that holds them.
_SPECIFIC = {f"m4ser.fusion.{name}_key" for name in ("speech_query_text", "speech_query_token", "text_query_speech")}
_JOINT, _GENERATOR = {"m4ser.fusion.joint_projection"}, {"m4ser.fusion.generator"}
_ENCODERS = {"m4ser.speech_encoder", "m4ser.text_encoder"}
_FULL = _ENCODERS | _SPECIFIC | _JOINT | _GENERATOR | {"classifier", "detector", "corrector", "discriminator"}
#: Row -> the groups that a model of it has.
GROUPS = {
    "M4SER": _FULL,
    "only speech": {"m4ser.speech_encoder", "classifier"},
    "only text": {"m4ser.text_encoder", "classifier"},
    "speech & text + concat": _ENCODERS | _JOINT | {"classifier"},
    "w/o MSR": _FULL - _SPECIFIC,
    "w/o MIR": _FULL - _JOINT - _GENERATOR - {"discriminator"},
    "w/o MSR & MIR": _FULL - _SPECIFIC - _GENERATOR - {"discriminator"},
    "w/o AED": _FULL - {"detector"},
    "w/o AEC": _FULL - {"corrector"},
    "w/o AED & AEC": _FULL - {"detector", "corrector"},
    "w/o GAN": _FULL - {"discriminator"},
    "w/o LCL": _FULL,  # a loss without parameters
    "w/o GAN & LCL": _FULL - {"discriminator"},
    "+ MSR & MIR": _FULL - {"detector", "corrector", "discriminator"},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_row_has_no_parameters_of_what_it_leaves_out(name):
    parameters = [key for key, _ in tiny_model("whisper", **ABLATIONS[name]).named_parameters()]
    assert {_group(parameter) for parameter in parameters} == GROUPS[name]


def _group(parameter):
    """A parameter's module: `classifier`, `m4ser.speech_encoder`, `m4ser.fusion.generator`."""
    parts = parameter.split(".")
    return ".".join(parts[: 1 if parts[0] != "m4ser" else 3 if parts[1] == "fusion" else 2])
