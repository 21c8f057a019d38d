"""The rows of Tables IV and V, by what each leaves out of the full model."""

import ast
import sys
from pathlib import Path

import pytest

from modeling_m4ser import M4SERConfig
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
