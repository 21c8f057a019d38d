"""Linear layers by oneDNN compute what torch's compute, and only where nobody asks for more."""

import copy
import pickle

import pytest
import torch
from torch import nn

from modeling_m4ser.linear_m4ser import OneDNNLinear, use_onednn

needs_both = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()),
    reason="torch lacks oneDNN or MKL",
)


@pytest.fixture(autouse=True)
def processor(monkeypatch):
    """One where oneDNN is the faster."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.fixture
def calls(monkeypatch):
    """How often torch's own layer was called."""
    found, forward = [], nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda layer, input: found.append(layer) or forward(layer, input))
    return found


def layers(bias=True):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(16, 8, bias=bias), nn.GELU())
    fast = copy.deepcopy(plain)
    use_onednn(fast)
    return plain, fast


@needs_both
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(16,), (3, 16), (2, 5, 16), (2, 0, 16), (2, 16, 5)])
def test_the_result_is_the_same_without_torchs_own(calls, shape, bias):
    plain, fast = layers(bias)
    given = torch.randn(shape)
    given = given.transpose(1, 2) if shape[-1] == 5 else given  # not contiguous
    with torch.no_grad():
        found = fast(given)
        assert calls == []
        torch.testing.assert_close(found, plain(given))


def test_gradients_are_torchs_own(calls):
    plain, fast = layers()
    given = torch.randn(3, 16)
    for model in (plain, fast):
        model(given).sum().backward()
    assert len(calls) == 2
    torch.testing.assert_close(fast[0].weight.grad, plain[0].weight.grad, rtol=0, atol=0)


def test_half_precision_and_exports_are_torchs_own():
    _, fast = layers()
    given = torch.randn(3, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fast(given).dtype == torch.bfloat16
    with torch.no_grad():
        assert fast.bfloat16()(given.bfloat16()).dtype == torch.bfloat16
        graph = torch.export.export(layers()[1], (given,)).graph
    assert "mkldnn" not in str(graph)
    assert "aten.linear" in str(graph)


@needs_both
def test_weights_copies_and_kinds_stay():
    plain, fast = layers()
    assert type(fast[0]) is OneDNNLinear
    assert fast.state_dict().keys() == plain.state_dict().keys()
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert type(other[0]) is OneDNNLinear
        torch.testing.assert_close(other.state_dict(), plain.state_dict())
    attention = nn.MultiheadAttention(16, 2)  # it reads the weights of its layer itself, and asks for its class
    use_onednn(attention)
    assert not isinstance(attention.out_proj, OneDNNLinear)


@needs_both
def test_processors_that_mkl_serves_well_keep_torchs_own(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    plain, fast = layers()
    assert type(fast[0]) is type(plain[0])
