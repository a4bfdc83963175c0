"""Targets: every form loads, nothing is evaluated or fetched, every mistake is one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, make, parse, with_batch
from costmodel.targets import load
from costmodel.targets.call import parse as take_apart


def shapes(inputs: Inputs | None) -> list[tuple[int, ...]]:
    assert inputs is not None
    return [tuple(value.shape) for value in (*inputs.args, *(inputs.kwargs or {}).values())]


def params(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def file(tmp_path: Path):
    """``file("text")`` writes a Python file and gives its path as text."""

    def write(text: str, name: str = "net.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, width=4, bias=True):
        super().__init__()
        self.layer = nn.Linear(8, width, bias)
    def forward(self, x):
        return self.layer(x)
"""


# -- the text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scheme", "place", "name", "args", "kwargs"),
    [
        ("net.py", "file", "net.py", None, (), {}),
        ("a/net.py:Net", "file", "a/net.py", "Net", (), {}),
        ("net.py:Net(width=0.5)", "file", "net.py", "Net", (), {"width": 0.5}),
        ("net.py:Net('a:b.py', (1, 2))", "file", "net.py", "Net", ("a:b.py", (1, 2)), {}),
        ("pkg.mod:Net(-1, x=None)", "module", "pkg.mod", "Net", (-1,), {"x": None}),
        ("timm:resnet50.a1_in1k", "timm", "timm", "resnet50.a1_in1k", (), {}),
        ("torchvision:raft_large()", "torchvision", "torchvision", "raft_large", (), {}),
        ("hf:some/folder", "hf", "hf", "some/folder", (), {}),
        ("m.pt2", "pt2", "m.pt2", None, (), {}),
    ],
)
def test_a_target_is_taken_apart(text, scheme, place, name, args, kwargs):
    call = take_apart(text)
    assert (call.scheme, call.place, call.name) == (scheme, place, name)
    assert (call.args, call.kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot tell what model '' is; write FILE.py"),
        ("resnet50", "cannot tell what model 'resnet50' is; write FILE.py"),
        ("net.py:", "cannot tell what model 'net.py:' is"),
        ("net.py:Net(", r"cannot tell what model 'net.py:Net\(' is"),
        ("net.py:Net(1", r"cannot tell what model 'net.py:Net\(1' is"),
        ("net.py:Net(x=)", "cannot read the arguments"),
        ("net.py:Net(1)(2)", "cannot read the arguments"),
        ("net.py:Net(print(1))", r"argument print\(1\) is not a Python literal"),
        ("net.py:Net(x=__import__('os'))", r"argument __import__\('os'\) is not a Python literal"),
        ("net.py:Net(nan)", "argument nan is not a Python literal"),
        ("net.py:Net(**{'a': 1})", r"\*\* is not a literal"),
        ("net.py:Net(a=1, a=2)", "argument a is given twice"),
        ("m.pt2:Net", "cannot tell what model 'm.pt2:Net' is"),
    ],
)
def test_a_text_that_is_no_target_is_refused(text, message):
    with pytest.raises(CostModelError, match=message):
        take_apart(text)


# -- files and modules ----------------------------------------------------------------------------


def test_the_only_class_of_a_file_is_its_model_and_has_no_data(file):
    target = load(file(NET))
    assert params(target.module) == 36
    assert all(p.is_meta for p in target.module.parameters())
    assert target.inputs is None


def test_arguments_reach_the_constructor(file):
    assert params(load(file(NET) + ":Net(2, bias=False)").module) == 16


@pytest.mark.parametrize(
    "more",
    [
        "def model(): return Net(1)\nclass Other(Net): pass",
        "model = Net(1)\nclass Other(Net): pass",
    ],
)
def test_a_function_or_variable_called_model_comes_first(file, more):
    assert params(load(file(NET + more)).module) == 9


@pytest.mark.parametrize(
    ("examples", "wanted"),
    [
        ("return (torch.randn(2, 8),)", [(2, 8)]),
        ("return torch.randn(2, 8)", [(2, 8)]),
        ("return '2x8'", [(2, 8)]),
        ("return {'x': torch.randn(2, 8)}", [(2, 8)]),
    ],
)
def test_example_inputs_are_taken_in_any_form(file, examples, wanted):
    assert shapes(load(file(f"{NET}\ndef example_inputs():\n    {examples}")).inputs) == wanted


def test_a_file_imports_its_neighbours_and_leaves_the_path_alone(file):
    file("WIDTH = 3", "neighbour_of_net.py")
    before = list(sys.path)
    text = NET + "\nfrom neighbour_of_net import WIDTH\ndef model(): return Net(WIDTH)"
    assert params(load(file(text)).module) == 27
    assert sys.path == before


def test_a_constructor_that_needs_values_is_built_on_the_cpu(file):
    text = NET + "\ndef model():\n    return Net(int(torch.ones(3).sum().item()))"
    target = load(file(text))
    assert params(target.module) == 27
    assert target.notes == (
        "built on the CPU: its constructor refuses the meta device (RuntimeError)",
    )


def test_a_class_of_an_installed_module_is_a_target():
    assert params(load("torch.nn:Linear(3, 8)").module) == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X = 1", "has no model: define `model`, or one nn.Module subclass, in it$"),
        (NET + "class B(Net): pass", r"has 2 models, Net and B; name one, as in .*net\.py:Net$"),
        ("def model(:", r"net\.py:1: SyntaxError: invalid syntax"),
        ("\nimport nothing_of_the_kind", r"net\.py:2: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)", r"net\.py:2: SystemExit: 3"),
        ("def model():\n    raise ValueError('odd\\nwidth')", r"net\.py:2: ValueError: odd width"),
        ("def model(): return 3", r"makes no nn\.Module but int"),
        ("model = 3", "model is a int; name a class or a function"),
        (NET + "def example_inputs(): return 1 / 0", r"net\.py:10: ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(file, text, message):
    path = file(text)
    with pytest.raises(CostModelError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_names_that_are_not_there_are_met_with_the_nearest(file):
    path = file(NET)
    with pytest.raises(CostModelError, match=r"net\.py has no Nett; did you mean Net\?"):
        load(f"{path}:Nett")
    with pytest.raises(CostModelError, match=r"nothing\.py: there is no such file"):
        load("nothing.py")
    with pytest.raises(CostModelError, match=r"nosuch\.mod: No module named 'nosuch'"):
        load("nosuch.mod:Net")
    with pytest.raises(CostModelError, match="is a model already"):
        load(file(NET + "model = Net()") + ":model()")


# -- libraries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count", "wanted"),
    [
        ("timm:resnet50", 25_557_032, [(1, 3, 224, 224)]),
        ("timm:efficientnet_b3", 12_233_232, [(1, 3, 288, 288)]),
        ("timm:vit_tiny_patch16_224(img_size=384, in_chans=1)", None, [(1, 1, 384, 384)]),
        # torchvision's published counts (its table of classification weights).
        ("torchvision:mobilenet_v2", 3_504_872, [(1, 3, 224, 224)]),
        ("torchvision:inception_v3", 27_161_264, [(1, 3, 299, 299)]),
        ("torchvision:efficientnet_b4(num_classes=10)", None, [(1, 3, 380, 380)]),
        ("torchvision:deeplabv3_resnet50", None, [(1, 3, 520, 520)]),
        ("torchvision:raft_large", 5_257_536, [(1, 3, 520, 960)] * 2),
        ("torchvision:r3d_18", 33_371_472, [(1, 3, 16, 112, 112)]),
        ("torchvision:regnet_y_400mf", 4_344_144, [(1, 3, 224, 224)]),
    ],
)
def test_a_library_s_model_comes_with_the_size_that_it_declares(text, count, wanted):
    target = load(text)
    assert shapes(target.inputs) == wanted
    assert count in (None, params(target.module))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:resnet5", "timm has no model 'resnet5'; did you mean resnet50"),
        ("torchvision:resnet5", "torchvision has no model 'resnet5'; did you mean resnet50"),
        ("hf:Bertconfig", "transformers has no model 'Bertconfig'; did you mean BertConfig"),
        ("hf:google/bert", "google/bert: there is no such folder; names are not downloaded"),
        ("timm", "cannot tell what model 'timm' is"),
        ("timm:resnet50(pretrained=True)", "pretrained would fetch weights"),
        ("torchvision:resnet50(weights='DEFAULT')", "weights would fetch weights"),
        ("timm:resnet50(no_such=1)", "TypeError: .*no_such"),
        ("hf:BertConfig(3)", r"write hf:CONFIG_DIR or hf:BertConfig\(num_labels=2\)"),
    ],
)
def test_what_a_library_does_not_have_is_one_line(text, message):
    with pytest.raises(CostModelError, match=message):
        load(text)


BERT = "hf:BertConfig(num_hidden_layers=1, hidden_size=64, num_attention_heads=4)"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (BERT, {"input_ids": (1, 128)}),
        ("hf:T5Config(num_layers=1)", {"input_ids": (1, 128), "decoder_input_ids": (1, 128)}),
        ("hf:ViTConfig(num_hidden_layers=1)", {"pixel_values": (1, 3, 224, 224)}),
        ("hf:Wav2Vec2Config(num_hidden_layers=1)", {"input_values": (1, 16_000)}),
        (
            "hf:WhisperConfig(encoder_layers=1, decoder_layers=1)",
            {"input_features": (1, 80, 3000), "decoder_input_ids": (1, 128)},
        ),
        ("hf:LlamaForCausalLM(num_hidden_layers=1)", {"input_ids": (1, 128)}),
    ],
)
def test_a_transformers_model_is_fed_what_its_signature_names(text, wanted):
    target = load(text)
    assert target.inputs is not None
    found = target.inputs.kwargs or {}
    assert {name: tuple(value.shape) for name, value in found.items()} == wanted
    assert target.notes == ()
    assert all(found[n].dtype == torch.int64 for n in found if n.endswith("ids"))


def test_a_folder_with_a_configuration_is_a_target(tmp_path):
    config = {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "num_hidden_layers": 1,
        "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128,
    }  # fmt: skip
    with pytest.raises(CostModelError, match=r"has no config\.json"):
        load(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert type(load(f"hf:{tmp_path}").module).__name__ == "BertForMaskedLM"


# -- exported programs ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(torch.export.export(model, (torch.randn(2, 8),)), path)
    return path


def test_an_exported_program_brings_its_inputs(exported):
    target = load(str(exported))
    assert shapes(target.inputs) == [(2, 8)]
    assert params(target.module) == 36


def test_a_file_that_is_no_exported_program_is_refused(tmp_path):
    (tmp_path / "junk.pt2").write_text("junk")
    with pytest.raises(CostModelError, match=r"not an archive of torch\.export\.save"):
        load(str(tmp_path / "junk.pt2"))
    with pytest.raises(CostModelError, match="no such file"):
        load(str(tmp_path / "none.pt2"))


def test_an_archive_with_pickled_objects_is_refused(exported, tmp_path):
    import zipfile

    path = tmp_path / "evil.pt2"
    path.write_bytes(exported.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/constants/opaque_obj_0", b"cos\nsystem\n.")
    with pytest.raises(CostModelError, match="holds pickled objects"):
        load(str(path))


def test_a_pickled_weight_is_read_as_a_tensor_or_not_at_all():
    import io
    import pickle

    from costmodel.targets.exported import _weights_only

    stream = io.BytesIO()
    torch.save({"x": Path("/")}, stream)
    stream.seek(0)
    with _weights_only(), pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(stream, weights_only=False)


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dims", "dtype", "name"),
    [
        ("1x3x224x224", (1, 3, 224, 224), "float32", None),
        ("int64:1x128", (1, 128), "int64", None),
        ("bf16:7", (7,), "bfloat16", None),
        ("mask=bool:1x128", (1, 128), "bool", "mask"),
    ],
)
def test_a_shape_is_read(text, dims, dtype, name):
    found = parse(text)
    assert (found.dims, found.dtype, found.name) == (dims, dtype, name)
    tensor = found.tensor()
    assert (tuple(tensor.shape), tensor.is_meta) == (dims, True)
    assert str(tensor.dtype) == f"torch.{dtype}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1x3xABC", "input '1x3xABC' is not a shape; write one like 1x3x224x224"),
        ("", "is not a shape"),
        ("1x-3", "is not a shape"),
        ("nan", "is not a shape"),
        ("1.5x3", "is not a shape"),
        ("9" * 5000, "is not a shape"),
        ("٣x٣", "is not a shape"),
        ("0x3", "every dimension must be at least 1"),
        ("999999999999999999x999999999999999999", r"their product below 2\^62"),
        ("int65:1x3", "no dtype 'int65'"),
    ],
)
def test_a_text_that_is_no_shape_is_refused(text, message):
    with pytest.raises(CostModelError, match=message):
        parse(text)


def test_a_batch_replaces_the_leading_dimension_that_inputs_share():
    inputs = Inputs((torch.empty(1, 3, 8), torch.empty(5, 2)), {"mask": torch.empty(1, 8) > 0})
    assert shapes(with_batch(inputs, 4)) == [(4, 3, 8), (5, 2), (4, 8)]
    with pytest.raises(CostModelError, match="--batch has no tensor to act on"):
        with_batch(Inputs((3,)), 4)
    with pytest.raises(CostModelError, match=r"below 2\^62"):
        with_batch(make("1x8"), 10**30)


def test_detection_says_what_it_misses_where_the_extension_does_not_load():
    from costmodel.targets.torchvision_shim import install

    if install() is None:
        images = load("torchvision:ssdlite320_mobilenet_v3_large").inputs.args[0]
        assert [tuple(image.shape) for image in images] == [(3, 800, 800)]
        return
    with pytest.raises(CostModelError, match="call torchvision's compiled extension"):
        load("torchvision:ssdlite320_mobilenet_v3_large")


def test_a_file_may_import_torchvision(tmp_path, needs):
    # in a process of its own, where nothing has made torchvision importable before
    needs("torchvision")
    file = tmp_path / "net.py"
    file.write_text("from torchvision.models import resnet18\n\nmodel = resnet18()\n")
    code = f"from costmodel.targets import load; print(type(load({str(file)!r}).module).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "ResNet\n", done.stderr
