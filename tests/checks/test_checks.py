"""What the checks let through comes out as it went in; what they refuse is named."""

import math

import numpy as np
import pytest
import torch
from conftest import toy_model
from hypothesis import given, strategies as st

from memoir.checks import host, inputs


@given(st.text())
def test_every_valid_text_is_let_through(value):
    assert inputs.text(value, "it") is value and inputs.texts([value, value], "them") == [value, value]


@given(st.integers(), st.integers(-5, 5))
def test_whole_numbers_have_borders(value, low):
    if low <= value <= low + 3:
        assert inputs.as_int(value, "n", low, low + 3) == value
    else:
        with pytest.raises(ValueError, match=rf"n = {value} is out of range: it must be from {low} to {low + 3}."):
            inputs.as_int(value, "n", low, low + 3)


def test_numbers_of_numpy_are_numbers_and_truth_values_are_not():
    assert inputs.as_int(np.int64(3), "n", 0) == 3 and inputs.as_float(np.float32(0.5), "x") == 0.5
    for check in (lambda value: inputs.as_int(value, "n", 0), lambda value: inputs.as_float(value, "n")):
        for value in (True, "1", None, [1], 1j):
            with pytest.raises(TypeError, match="n must be a "):
                check(value)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="is not a finite number"):
            inputs.as_float(value, "x")


def test_an_unknown_name_gets_three_near_ones_at_most():
    sentence = inputs.unknown("river", "danub", ["danube", "danubio", "danu", "dan", "po"], "an atlas")
    assert sentence == "There is no river 'danub'. Did you mean danube or danu or danubio? All 5 names: an atlas."
    assert inputs.unknown("river", "xyz", ["po"], "an atlas") == "There is no river 'xyz'. All 1 names: an atlas."


def test_a_checksum_tells_every_change_of_a_weight():
    model = toy_model()
    kept, before = {name: weight.clone() for name, weight in model.named_parameters()}, host.checksum(model)
    assert host.checksum(model) == before == host.checksum(toy_model())
    with torch.no_grad():
        for name, weight in list(model.named_parameters())[::5]:
            weight.view(-1)[0] += 1e-3
            assert host.checksum(model) != before
            weight.copy_(kept[name])
            assert host.checksum(model) == before
