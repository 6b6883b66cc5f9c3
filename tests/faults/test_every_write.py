"""Each write of a training fails, at each call of the system: what is there is true, and the run goes on."""

import errno
import json
import shutil
from dataclasses import replace

import pytest

from lambdanets.errors import StorageError
from lambdanets.files import replace_file
from lambdanets.runs import tasks
from lambdanets.runs import train as job
from lambdanets.training.checkpoint import load_checkpoint
from lambdanets.training.config import CkptConfig, SchedConfig
from lambdanets.training.loop import Trainer
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.weights import load_weights
from support.disk import Disk
from support.runs import assert_same_run
from support.tiny_run import tiny_task
from support.training import TinyData, tiny_config, tiny_model

CONFIG = tiny_config(
    global_batch_size=10,
    sched=SchedConfig(epochs=2, warmup_epochs=0.5),
    ckpt=CkptConfig(every_epochs=1, keep=1, tolerate_failures=1),
)


def _report(folder, state, model, command, evaluations, **_):
    """A report that is written in a moment."""
    replace_file(folder.report, json.dumps(state.best).encode())
    return "done"


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "load_task", lambda config: tiny_task(TinyData(num=20)))
        patch.setattr(tasks, "make_model", lambda config, task: tiny_model())
        patch.setattr(tasks, "write_report", _report)
        # The first epoch stays the best one, so that the last checkpoint does not have the best weights.
        keep = Trainer._keep_if_best
        patch.setattr(
            Trainer, "_keep_if_best", lambda self, state, found: state.best or keep(self, state, found)
        )
        yield


def train(path, config=CONFIG):
    """Train, or go on; the exit code."""
    allow = ["sched.epochs", "ckpt.keep"]
    try:
        with RunFolder(path).locked(config, allow) as folder:
            job.train(config, folder, command="lambdanets train digits", allow=allow)
    except StorageError as error:
        assert str(error).startswith("run folder: "), error
        return error.exit_code
    return 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    # The first training of a process makes a folder of its own for torch.
    for _ in range(2):
        path = tmp_path_factory.mktemp("undisturbed")
        with Disk().at_work() as disk:
            assert train(path) == 0
    assert json.loads((path / "best.json").read_text())["metric"]["epoch"] == 1
    return path, disk.calls


def _check_truth(path, code):
    """What a run left is whole; with exit code 0 nothing is missing."""
    run = RunFolder(path)
    lines = [record["epoch"] for record in run.read_metrics()]
    assert lines == sorted(set(lines))
    if run.best.exists():
        # The digest is compared.
        assert load_weights(run.best)[1]["metric"]["epoch"] <= 2
    last = load_checkpoint(run.checkpoints)
    assert last is None or not last.skipped
    if code:
        assert code == 7 and run.finished(CONFIG) is None
        return
    assert run.finished(CONFIG) and lines == [1, 2] and last.record["step"] == 4
    described = load_weights(run.best)[1]
    assert described == json.loads(run.best.with_suffix(".json").read_text())
    assert described["metric"] == last.record["best"] == json.loads(run.report.read_text())
    # What could not be deleted is tried again by the next save; there may be none.
    assert not [left for left in path.rglob(".tmp-*") if not left.name.startswith(".tmp-old-step-")]


# Which parts of all calls are tried: of several tests, the first ones are quick.
_PARTS = 20


@pytest.mark.parametrize(
    ("half", "lasts"),
    # Once, until somebody makes room, or in the middle of what is written.
    [(False, False), (False, True), (True, False)],
    ids=["once", "from then on", "half written"],
)
@pytest.mark.parametrize(
    "part", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, _PARTS))]
)
def test_at_every_call(tmp_path, undisturbed, part, half, lasts):
    expected, calls = undisturbed
    numbers = [number for number, name in enumerate(calls, 1) if not half or "write" in name]
    for number in numbers[part::_PARTS]:
        path = tmp_path / str(number)
        path.mkdir()

        def fails(call, number=number):
            return call >= number if lasts else call == number

        with Disk(fails, (errno.ENOSPC, errno.EIO)[number % 2], half=half).at_work() as disk:
            code = train(path)
        # The lines of the log are not always as many.
        assert disk.failed or number > len(calls) - 5
        # A disk that stays full lets a run end well only where the rest is lines of the log.
        assert code == 7 or not lasts or number > len(calls) - 10
        _check_truth(path, code)
        with Disk().at_work():
            assert train(path) == 0
        _check_truth(path, 0)
        assert_same_run(path, expected)


@pytest.mark.parametrize(
    "names", [("metrics.jsonl",), ("best.safetensors",), ("metrics.jsonl", "best.safetensors")], ids="+".join
)
def test_what_waits_survives_the_end_of_the_process(tmp_path, undisturbed, names):
    # The second time it is the same command on the same disk: nothing is lost, nothing is claimed.
    for _ in range(2):
        with Disk(refused=names).at_work() as disk:
            assert train(tmp_path) == 7
        assert disk.failed
    assert RunFolder(tmp_path).finished(CONFIG) is None
    assert train(tmp_path) == 0
    _check_truth(tmp_path, 0)
    assert_same_run(tmp_path, undisturbed[0])


def test_best_weights_that_are_lost_are_told_and_replaced(tmp_path, undisturbed, capsys):
    run = RunFolder(tmp_path)
    for keep, epoch in ((2, 1), (1, 2)):
        config = replace(CONFIG, ckpt=replace(CONFIG.ckpt, keep=keep))
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        assert train(tmp_path, config) == 0
        run.report.unlink()
        run.best.unlink()
        assert train(tmp_path, config) == 0
        metric = load_weights(run.best)[1]["metric"]
        assert metric == json.loads(run.report.read_text()) and metric["epoch"] == epoch
        # With two checkpoints that of the best step has them.
        assert ("no longer has the weights of epoch 1" in capsys.readouterr().out) == (keep == 1)


def test_a_run_that_goes_on_is_not_finished_by_its_old_report(tmp_path):
    assert train(tmp_path) == 0
    longer = replace(CONFIG, sched=SchedConfig(epochs=3, warmup_epochs=0.5))
    with (
        Disk(refused={"report.md"}).at_work(),
        RunFolder(tmp_path).locked(longer, ["sched.epochs"]) as folder,
    ):
        with pytest.raises(StorageError, match=r"report.md must be writable"):
            job.train(longer, folder, command="", allow=["sched.epochs"])
        assert folder.report.exists() and folder.finished(longer) is None
    assert train(tmp_path, longer) == 0
    assert json.loads(RunFolder(tmp_path).report.read_text())["epoch"] <= 3
