"""R23 and R24: an unfriendly machine, and a long run."""

import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lambdanets.training.config import CkptConfig, ExecConfig, SchedConfig
from support.tiny_run import SETTINGS
from support.training import Notes, TinyData, tiny_config, tiny_state, tiny_trainer

SCRIPT = Path(__file__).parents[1] / "support/tiny_run.py"


@pytest.mark.slow
def test_no_home_no_network_no_terminal_no_language(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(stat.S_IRUSR | stat.S_IXUSR)
    folder = tmp_path / "ein Lauf, ünïcode \u03bb"
    words = ["train", "digits", "--out", str(folder), *SETTINGS]
    paths = os.pathsep.join([str(SCRIPT.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": paths}
    environment |= {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}
    # Proxies that refuse: whoever asks for the network fails.
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        timeout=120,
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (folder / "report.md").is_file() and (folder / "curves.png").is_file()
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["epoch"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_two_thousand_steps_keep_their_size(workers):
    config = tiny_config(
        global_batch_size=10,
        sched=SchedConfig(epochs=500),
        ckpt=CkptConfig(every_epochs=500),
        exec=ExecConfig(device="cpu", num_workers=workers),
    )
    state = tiny_state(config)
    sizes, handles = {}, {}

    class Measure(Notes):
        def on_step_end(self, state, num_images):
            if state.step in (400, 2000):
                sizes[state.step] = _resident_bytes()
                handles[state.step] = sum(1 for _ in Path("/proc/self/fd").iterdir())

        def on_epoch_end(self, state, record):
            pass

    data = TinyData(num=40)
    data.seen = _Forgetful()
    tiny_trainer(config, data, callback=Measure()).fit(state)
    assert state.step == 2000
    assert handles[2000] <= handles[400]
    assert sizes[2000] <= 1.01 * sizes[400]


class _Forgetful(list):
    def append(self, item):
        pass


def _resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
