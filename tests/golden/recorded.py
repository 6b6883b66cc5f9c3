"""What the golden files hold, and how it is computed: for the script that wrote them and for the tests."""

import hashlib
import json
from pathlib import Path

import lambdanets
from golden import inner
from lambdanets.models import on_meta

GOLDEN = Path(__file__).parent

# The stored run: a network of under 5,000 parameters, stopped within the last of 4 epochs.
TRAIN = (
    *("train", "digits", "--model.name", "lambda_resnet_relation"),
    *("--model.overrides", "query_depth", "8", "num_heads", "4", "scope_size", "5"),
    *("--global-batch-size", "40", "--optim.learning-rate", "0.04", "--ema-decay", "0.95"),
    *("--sched.epochs", "4", "--sched.warmup-epochs", "1", "--ckpt.every-epochs", "1", "--ckpt.keep", "1"),
    *("--exec.device", "cpu", "--exec.precision", "float32"),
)

# Images of which the views of training and tests are stored, and what these are.
VIEWED = ("exif_6.jpg", "rgba.png", "photo.webp")
TRIPLES = ((0, 0, 0), (1, 7, 123))
TRAIN_VIEWS = {
    "plain": {"size": 16},
    "randaugment": {"size": 16, "randaugment_layers": 2, "randaugment_magnitude": 10.0},
}
TEST_VIEW = {"size": 16}


def load(name):
    return json.loads((GOLDEN / name).read_text())


def built(spec):
    """A module of `{"class": name, "options": …}`, or a model of `{"model": name, "options": …}`."""
    if "model" in spec:
        return lambdanets.create_model(spec["model"], **spec["options"])
    # JSON has lists where the constructors want tuples.
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in spec["options"].items()}
    return getattr(lambdanets, spec["class"])(**options)


def shapes_of(module):
    return {
        name: [*tensor.shape, str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in module.state_dict().items()
    }


def digest_of(spec):
    """SHA-256 over the sorted lines `name shape dtype`, and the number of parameters; without memory."""
    with on_meta():
        module = built(spec)
    lines = sorted(
        f"{name} {'x'.join(map(str, shape))} {dtype}" for name, (*shape, dtype) in shapes_of(module).items()
    )
    return {
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def views_of(path):
    """Every stored view of an image file, by name."""
    views = {f"{path.name} test": inner.eval_view(path, **TEST_VIEW)}
    for kind, options in TRAIN_VIEWS.items():
        for triple in TRIPLES:
            views[f"{path.name} {kind} {triple}"] = inner.train_view(path, *triple, **options)
    return views
