"""The page of examples: what it shows of known detections, and that it is one safe file."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lambdanets.data.detection import CocoConfig
from lambdanets.detection.coco import Annotation, Category, CocoFile, ImageRecord
from lambdanets.detection.evaluation import evaluate_predictions
from lambdanets.detection.objective import DetectionEvaluation
from lambdanets.detection.page import write_page
from lambdanets.errors import DataError
from lambdanets.runs.detect import DetectorEvaluation, LoadedDetector
from lambdanets.runs.loaded import Origin
from lambdanets.training.config import DetectConfig, ModelConfig, OptimConfig, SchedConfig
from support.detectors import small_detector

CATEGORIES = (Category(id=2, name="cat"), Category(id=9, name="<script>alert(1)</script>"))


class Outline(HTMLParser):
    """Titles and details of the figures of each section, their images, and the numbers of the table."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.urls, self.tags, self._path = {}, [], set(), []
        self.feed(text)
        self.table = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self._path.append(tag)
        if tag == "section":
            self.sections[given["id"]] = []
        if tag == "figure":
            list(self.sections.values())[-1].append([])
        if tag == "img":
            self.urls.append(given["src"])

    def handle_endtag(self, tag):
        while self._path and self._path.pop() != tag:
            pass

    def handle_data(self, data):
        if "figure" in self._path and data.strip():
            list(self.sections.values())[-1][-1].append(data.strip())


def annotation(number, category, box, *, crowd=False):
    x, y, width, height = box
    return Annotation(
        id=number,
        category_id=category,
        box=tuple(map(float, box)),
        segmentation=[[float(n) for n in (x, y, x + width, y, x + width, y + height, x, y + height)]],
        area=float(width * height),
        is_crowd=crowd,
    )


def record(number, name, *annotations, size=(200, 100)):
    width, height = size
    return ImageRecord(id=number, file_name=name, width=width, height=height, annotations=annotations)


def result(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": [*map(float, box)], "score": score}


@pytest.fixture
def file(tmp_path):
    """Three images: one with a crowd first, one that is missing on the disk, one without objects."""
    for name in ("a.png", "c.png"):
        Image.new("RGB", (200, 100), (90, 120, 90)).save(tmp_path / name)
    crowd = annotation(1, 2, (0, 0, 10, 10), crowd=True)
    objects = [
        annotation(2, 2, (20, 20, 40, 40)),
        annotation(3, 9, (120, 20, 60, 60)),
        annotation(4, 2, (80, 70, 10, 10)),
    ]
    return CocoFile(
        path=tmp_path / "objects.json",
        image_folder=tmp_path,
        categories=CATEGORIES,
        images=(
            ImageRecord(id=7, file_name="a.png", width=200, height=100, annotations=(crowd, *objects)),
            ImageRecord(
                id=3,
                file_name="gone.png",
                width=200,
                height=100,
                annotations=(annotation(5, 9, (5, 5, 50, 30)),),
            ),
            ImageRecord(id=8, file_name="c.png", width=200, height=100, annotations=()),
        ),
    )


RESULTS = [
    result(7, 2, (20, 20, 40, 41), 0.9),
    result(7, 2, (22, 20, 40, 40), 0.8),
    result(7, 2, (121, 20, 60, 60), 0.7),
    result(8, 9, (10, 10, 20, 20), 0.6),
    result(7, 2, (80, 70, 10, 10), 0.4),
]


def outline(path):
    return Outline(path.read_text(encoding="utf-8"))


def test_what_the_page_shows(file, tmp_path):
    write_page(
        tmp_path / "new" / "page.html",
        file,
        RESULTS,
        title="run <1>",
        scores={"box AP": 0.5124, "mask AP": None},
    )
    page = outline(tmp_path / "new" / "page.html")
    script = CATEGORIES[1].name
    assert page.sections["best"] == [["cat 0.90", "40×41 px · a.png"]]
    assert page.sections["missed"] == [
        ["The image cannot be read.", script, "50×30 px · gone.png"],
        ["cat", "10×10 px · a.png"],
    ]
    assert page.sections["false"] == [
        ["cat 0.80", "an object found twice · 40×40 px · a.png"],
        ["cat 0.70", f"another class: {script} · 60×60 px · a.png"],
        [f"{script} 0.60", "nothing is there · 20×20 px · c.png"],
    ]
    # Of the errors for what is there: 1 of 1, 1 of 1, 3 of 5; the crowd does not count.
    assert [figure[-2] for figure in page.sections["worst"]] == ["1 missed", "1 false", "1 missed, 2 false"]
    assert page.table["box AP"] == "51.2 %" and page.table["mask AP"] == "–"
    counts = {name: page.table[name] for name in ("images", "objects", "objects found", "objects missed")}
    assert counts == {"images": "3", "objects": "4", "objects found": "1", "objects missed": "2"}
    assert page.table["objects found wrongly"] == "1" and page.table["detections"] == "4"


def test_a_lower_score_finds_more(file, tmp_path):
    write_page(tmp_path / "page.html", file, RESULTS, title="run", min_score=0.3)
    page = outline(tmp_path / "page.html")
    assert [figure[0] for figure in page.sections["best"]] == ["cat 0.90", "cat 0.40"]
    assert page.table["objects missed"] == "1"


def test_the_page_is_one_safe_file(file, tmp_path):
    write_page(tmp_path / "page.html", file, RESULTS, title="</title><img src=x>")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Outline(text)
    assert "script" not in page.tags and "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:image/jpeg;base64,|#)", text)
    for url in page.urls:
        image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        image.load()
        assert image.format == "JPEG" and max(image.size) in (180, 380)
    assert len(page.urls) == 1 + 1 + 3 + 2


def test_a_crop_shows_the_object(tmp_path):
    """A blue square on green: the crop has it in its middle, with the color of the class around."""
    image = Image.new("RGB", (300, 200), (0, 120, 0))
    image.paste((0, 0, 255), (100, 60, 150, 110))
    image.save(tmp_path / "a.png")
    record = ImageRecord(
        id=1, file_name="a.png", width=300, height=200, annotations=(annotation(1, 2, (100, 60, 50, 50)),)
    )
    file = CocoFile(path=Path("x"), image_folder=tmp_path, categories=CATEGORIES, images=(record,))
    write_page(tmp_path / "page.html", file, [result(1, 2, (100, 60, 50, 50), 0.9)], title="run")
    (url,) = outline(tmp_path / "page.html").urls
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).astype(int)
    # 50 px and 20 around on either side: 90 px are 180.
    assert pixels.shape == (180, 180, 3)
    assert (np.abs(pixels[60:120, 60:120] - (0, 0, 255)) < 12).all()
    assert (np.abs(pixels[5:30, 5:175] - (0, 120, 0)) < 12).all()


def test_the_page_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    images, results = [], []
    for number in range(1, 41):
        noise = rng.integers(0, 256, (300, 400, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
        boxes = [(x, y, 60, 60) for x in range(0, 340, 100) for y in range(0, 240, 100)]
        objects = tuple(annotation(place, 2, box) for place, box in enumerate(boxes, 1))
        images.append(
            ImageRecord(id=number, file_name=f"{number}.png", width=400, height=300, annotations=objects)
        )
        results += [result(number, 2, box, 0.9) for box in boxes[::3]]
        results += [result(number, 9, (x + 30, y, 60, 60), 0.8) for x, y, _, _ in boxes[1::3]]
    file = CocoFile(path=Path("x"), image_folder=tmp_path, categories=CATEGORIES, images=tuple(images))
    write_page(tmp_path / "page.html", file, results, title="noise")
    page = outline(tmp_path / "page.html")
    assert {name: len(figures) for name, figures in page.sections.items()} == {
        "best": 3,
        "worst": 8,
        "missed": 18,
        "false": 18,
    }
    assert (tmp_path / "page.html").stat().st_size < 2_000_000


def test_results_of_another_file(file, tmp_path):
    with pytest.raises(DataError, match=r"^results: image ids must be those of "):
        write_page(tmp_path / "page.html", file, [result(99, 2, (0, 0, 5, 5), 0.9)], title="run")
    assert not (tmp_path / "page.html").exists()


def test_nothing_found_and_nothing_there(file, tmp_path):
    empty = CocoFile(path=Path("x"), image_folder=tmp_path, categories=CATEGORIES, images=(file.images[2],))
    write_page(tmp_path / "page.html", empty, [], title="run")
    assert outline(tmp_path / "page.html").sections == {"best": [], "worst": [], "missed": [], "false": []}


def test_an_evaluation_writes_it(file, tmp_path):
    """`lambdanets detect eval` does, beside its scores."""
    config = DetectConfig(
        recipe="photos",
        num_threads=1,
        global_batch_size=2,
        model=ModelConfig(name="resnet50"),
        data=CocoConfig(root="images"),
        optim=OptimConfig(name="sgd", learning_rate=0.1),
        sched=SchedConfig(epochs=1, warmup_epochs=0.0, shape="cosine"),
    )
    origin = Origin(source="x", model="y", sha256="0")
    scores = evaluate_predictions(file, RESULTS, masks=False)
    found = DetectorEvaluation(
        run=tmp_path / "run",
        loaded=LoadedDetector(model=small_detector(), categories=CATEGORIES, config=config, origin=origin),
        file=file,
        evaluation=DetectionEvaluation(scores=scores, loss=1.0, losses={"box": 1.0}, results=RESULTS),
        seconds=1.0,
    )
    files = found.write(tmp_path / "out")
    assert [path.name for path in files] == ["results.json", "scores.json", "detections.html"]
    page = outline(tmp_path / "out" / "detections.html")
    assert page.table["box AP 50"] == f"{100 * found.evaluation.scores.box['box_ap_50']:.1f} %"
    assert "mask AP" not in page.table and len(page.sections["best"]) == 1
    assert "<h1>run: resnet50 of photos</h1>" in (tmp_path / "out" / "detections.html").read_text()
