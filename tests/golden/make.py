"""Write the golden files anew, from the code of today: only where a change of what they hold is meant.

    PYTHONPATH=src:tests python -m golden.make recipes|state_dicts|images|run …

They were first written before the redesign of the library's inner structure, at commit 7438f66.
`run` trains twice, to its end and with a stop on the way, and demands that both reach the same numbers.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import lambdanets
from golden import inner
from golden.recorded import GOLDEN, TRAIN, VIEWED, digest_of, load, shapes_of, views_of
from golden.recorded import built as build
from lambdanets.recipes import RECIPES, get_recipe
from lambdanets.training.config import RunConfig

LAYERS = {
    **{f"{name}": {"class": name, "options": {"in_channels": 16}} for name in
       ("LambdaLayer1d", "LambdaLayer2d", "LambdaLayer3d", "LambdaLayer")},
    **{
        f"{name} {label}": {"class": name, "options": {"in_channels": 16, "out_channels": 24, **options}}
        for name in ("LambdaLayer1d", "LambdaLayer2d", "LambdaLayer3d")
        for label, options in {
            "position_bias": {"position_bias": True, "scope_size": 5},
            "layer norm": {"normalization": "layer", "scope_size": 5},
            "no norm": {"normalization": "none", "scope_size": 5},
            "intra-depth": {"intra_depth": 4, "query_depth": 8, "num_heads": 8, "scope_size": 5},
            "no content": {"content": False, "scope_size": 5},
            "no position": {"positional": False},
            "global scope": {"scope_size": None, "feature_size": 6},
            "stride": {"stride": 2, "scope_size": 5},
        }.items()
    },
    **{
        f"LambdaLayer {label}": {"class": "LambdaLayer", "options": {"in_channels": 16, **options}}
        for label, options in {
            "layer norm": {"normalization": "layer", "causal": True},
            "no norm": {"normalization": "none"},
            "intra-depth": {"intra_depth": 4, "query_depth": 8, "num_heads": 8, "scope_size": 5},
            "no content": {"content": False},
            "no position": {"position": "none"},
            "global scope": {"scope_size": None, "feature_size": 6},
            "dense": {"position": "dense", "feature_size": [6, 9], "context_channels": 12},
        }.items()
    },
}  # fmt: skip
MIXERS = (
    *("axial_attention", "augmented_convolution", "double_attention", "efficient_attention"),
    *("global_attention", "linear_attention", "local_attention", "local_relation"),
    *("pairwise_attention", "patchwise_attention", "relative_attention"),
)
MODELS = {
    "lambda_resnet_digits": {
        "model": "lambda_resnet_digits",
        "options": {"num_classes": 10, "in_channels": 1},
    },
    "lambda_mobilenet_small": {"model": "lambda_mobilenet_small", "options": {"num_classes": 10}},
}
VARIATIONS = {
    **{f"mixer {mixer}": {"model": "resnet50", "options": {
        "layers": "CAAA", "mixer": mixer, "depths": [1, 1, 1, 1]}} for mixer in MIXERS},
    "shared position": {"model": "lambda_resnet50_c4", "options": {"share_position": "stage"}},
    "global": {"model": "lambda_resnet50_c4", "options": {"scope_size": None, "image_size": 64}},
    "intra-depth": {"model": "lambda_resnet50", "options": {"intra_depth": 4, "num_heads": 8}},
    "layer norm": {"model": "lambda_resnet50", "options": {"normalization": "layer"}},
    "positions only": {"model": "lambda_resnet50", "options": {"content": False}},
    "content only": {"model": "lambda_resnet50", "options": {"positional": False}},
}  # fmt: skip


def write(name, content, indent=1):
    (GOLDEN / name).write_text(json.dumps(content, indent=indent) + "\n")


def recipes():
    write("recipes.json", {name: json.loads(get_recipe(name, RunConfig).to_json()) for name in RECIPES})


def state_dicts():
    listed = {name: {"model": name, "options": {}} for name in lambdanets.list_models()}
    whole = {**MODELS, **LAYERS}
    content = {
        "digests": [
            {"label": label, **spec, **digest_of(spec)} for label, spec in {**listed, **VARIATIONS}.items()
        ],
        "tensors": [
            {"label": label, **spec, "tensors": shapes_of(build(spec))} for label, spec in whole.items()
        ],
    }
    # A line each: pretty-printed lists would take ten times as many.
    text = ",\n".join(
        f'"{group}": [\n{",".join(chr(10) + json.dumps(row) for row in rows)[1:]}\n]'
        for group, rows in content.items()
    )
    (GOLDEN / "state_dicts.json").write_text(f"{{\n{text}\n}}\n")
    assert load("state_dicts.json") == content


def images():
    folder = GOLDEN / "images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _write_lossless(folder)
    photo = Image.fromarray(_photo())
    photo.save(folder / "photo.webp", quality=80)
    photo.convert("L").save(folder / "grey.jpg", quality=85)
    photo.convert("CMYK").save(folder / "cmyk.jpg", quality=85)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(folder / f"exif_{orientation}.jpg", quality=75, exif=exif)
    paths = sorted(folder.iterdir())
    assert all(path.stat().st_size < 3000 for path in paths)
    np.savez_compressed(GOLDEN / "decoded.npz", **{path.name: inner.decode(path) for path in paths})
    views = {name: view for path in paths if path.name in VIEWED for name, view in views_of(path).items()}
    np.savez_compressed(GOLDEN / "views.npz", **views)


def _photo(width=23, height=17):
    """Smooth colours that no turn or mirror leaves as they are."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(30, 226, (4, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _write_lossless(folder):
    pixels = _photo()
    height, width = pixels.shape[:2]
    alpha = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
    grey = pixels[..., 0]
    Image.fromarray(np.dstack([pixels, alpha])).save(folder / "rgba.png")
    Image.fromarray(np.dstack([grey, alpha]), "LA").save(folder / "la.png")
    Image.fromarray(grey.astype(np.uint16) * 200 + 77).save(folder / "grey_16.png")
    Image.fromarray(grey > 127).save(folder / "one_bit.png")
    palette = Image.fromarray(pixels).quantize(16)
    palette.save(folder / "palette.png")
    palette.save(folder / "palette_transparent.png", transparency=3)
    Image.fromarray(pixels).save(folder / "rgb_transparent.png", transparency=tuple(map(int, pixels[3, 4])))
    real = (grey.astype(np.float32) - 60) / 40
    Image.fromarray(real).save(folder / "float.tif", compression="tiff_lzw")
    second = palette.transpose(Image.Transpose.ROTATE_180)
    palette.save(folder / "frames.gif", save_all=True, append_images=[second], duration=100)


def run():
    with tempfile.TemporaryDirectory() as place:
        whole, halved = Path(place) / "whole", Path(place) / "run"
        _lambdanets(place, *TRAIN, "--out", whole.name)
        _stop_in_epoch_4(place, halved.name)
        shutil.rmtree(GOLDEN / "run", ignore_errors=True)
        shutil.copytree(halved, GOLDEN / "run")
        # Neither the process nor the machine matters.
        (GOLDEN / "run" / ".lock").write_text('{"pid": 1, "host": "anywhere", "sessions": 1}\n')
        evaluated = json.loads(_lambdanets(place, "eval", halved.name, "--json"))
        _draw_digit(GOLDEN / "digit.png")
        shutil.copy(GOLDEN / "digit.png", place)
        predicted = json.loads(_lambdanets(place, "predict", halved.name, "digit.png", "--format", "json"))
        _lambdanets(place, *TRAIN, "--out", halved.name)
        records = [_records(folder)[3:] for folder in (whole, halved)]
        assert records[0] == records[1], "continuing must reach what an uninterrupted run reaches"
        # What depends on the machine, or takes many lines and follows from the rest.
        evaluated = {k: v for k, v in evaluated.items() if k not in ("images_per_s", "classes", "confusion")}
        write("run.json", {"epochs": records[0], "eval": evaluated, "predict": predicted[0]["top"]}, indent=2)


def _lambdanets(place, *words):
    command = [sys.executable, "-m", "lambdanets", *words]
    return subprocess.run(command, cwd=place, check=True, stdout=subprocess.PIPE, text=True).stdout


def _stop_in_epoch_4(place, name):
    command = [sys.executable, "-m", "lambdanets", *TRAIN, "--out", name]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = Path(place) / name / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    process.wait()
    assert len(metrics.read_text().splitlines()) == 3


def _records(folder):
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in record.items() if k not in ("seconds", "images_per_s")} for record in records]


def _draw_digit(path):
    """A handwritten two as a stranger would bring it: grey, larger, dark on light."""
    from sklearn.datasets import load_digits

    digit = load_digits().images[2]
    image = Image.fromarray((255 - digit * 15).astype(np.uint8))
    image.resize((40, 40), Image.Resampling.BICUBIC).save(path)


if __name__ == "__main__":
    for part in sys.argv[1:]:
        {"recipes": recipes, "state_dicts": state_dicts, "images": images, "run": run}[part]()
