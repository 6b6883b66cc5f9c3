"""What a network takes of the weights of another: exactly what fits, and two ways of adapting the rest."""

import pytest
import torch
from torch import Tensor, nn

from lambdanets.errors import CheckpointError
from lambdanets.models import create_model, on_meta
from lambdanets.training.transfer import NotTaken, match_weights
from support.compare import assert_equal

DIGITS = "lambda_resnet_digits"


def weights_of(name: str = DIGITS, **options: object) -> dict[str, Tensor]:
    """Weights and statistics that no new network has."""
    torch.manual_seed(7)
    state = create_model(name, **options).state_dict()
    return {
        name: torch.rand_like(one) / 16 + 0.01 if one.is_floating_point() else one + 5
        for name, one in state.items()
    }


def not_taken(network: nn.Module, tensors: dict[str, Tensor], **options: object) -> list[NotTaken]:
    return list(match_weights(network, tensors, "runs/a", **options).not_taken)


def test_equal_networks_take_everything_bit_for_bit() -> None:
    tensors, network = weights_of(num_classes=4), create_model(DIGITS, num_classes=4)
    transfer = match_weights(network, tensors, "runs/a")
    assert not transfer.not_taken and not transfer.adapted and transfer.fraction == 1.0
    transfer.load(network)
    for name, tensor in network.state_dict().items():
        assert_equal(tensor, tensors[name], name)


def test_a_new_layer_takes_nothing_and_is_not_counted() -> None:
    tensors, network = weights_of(num_classes=4), create_model(DIGITS, num_classes=4)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    transfer = match_weights(network, tensors, "runs/a", new={"classifier": "new: other classes"})
    transfer.load(network)
    assert transfer.not_taken == (
        NotTaken(name="classifier.weight", wanted=(4, 128), found=(4, 128), reason="new: other classes"),
        NotTaken(name="classifier.bias", wanted=(4,), found=(4,), reason="new: other classes"),
    )
    assert transfer.fraction == 1.0
    after = network.state_dict()
    assert_equal(after["classifier.weight"], before["classifier.weight"])
    assert_equal(after["c5.0.expand.weight"], tensors["c5.0.expand.weight"])


def test_what_has_no_partner_is_listed_for_both_sides() -> None:
    tensors = weights_of(depths=(1, 1, 2, 1))
    del tensors["c2.0.reduce.weight"]
    network = create_model(DIGITS, widths=(16, 16, 32, 24))
    found = {one.name: one for one in not_taken(network, tensors)}
    assert found["c2.0.reduce.weight"] == NotTaken(
        name="c2.0.reduce.weight", wanted=(16, 16, 1, 1), found=None, reason="not in the weights"
    )
    assert found["c4.1.expand.weight"] == NotTaken(
        name="c4.1.expand.weight", wanted=None, found=(128, 32, 1, 1), reason="not in the network"
    )
    assert found["c5.0.expand.weight"] == NotTaken(
        name="c5.0.expand.weight", wanted=(96, 24, 1, 1), found=(128, 32, 1, 1), reason="other shape"
    )
    assert "c3.0.expand.weight" not in found


def test_grey_in_three_channels_gives_what_it_gave_in_one() -> None:
    tensors, network = weights_of(in_channels=1), create_model(DIGITS, in_channels=3)
    transfer = match_weights(network, tensors, "runs/a")
    transfer.load(network)
    assert transfer.adapted == {"stem.0.weight": "repeated from 1 to 3 channels and scaled by 1/3"}
    assert_equal(network.state_dict()["stem.0.weight"][:, 1:2], tensors["stem.0.weight"] * (1 / 3))
    one = create_model(DIGITS, in_channels=1)
    one.load_state_dict(tensors)
    images = torch.rand(2, 1, 8, 8)
    ours, theirs = network.eval()(images.expand(-1, 3, -1, -1)), one.eval()(images)
    torch.testing.assert_close(ours, theirs)


def test_three_channels_are_summed_for_grey() -> None:
    tensors, network = weights_of(in_channels=3), create_model(DIGITS, in_channels=1)
    transfer = match_weights(network, tensors, "runs/a")
    assert transfer.adapted == {"stem.0.weight": "summed from 3 channels to 1"}
    assert_equal(transfer.tensors["stem.0.weight"][:, 0], tensors["stem.0.weight"].sum(1))


def test_four_channels_are_no_three() -> None:
    network = create_model(DIGITS, in_channels=3)
    assert [one.name for one in not_taken(network, weights_of(in_channels=4))] == ["stem.0.weight"]
    five = match_weights(create_model(DIGITS, in_channels=5), weights_of(in_channels=3), "runs/a")
    assert five.adapted == {"stem.0.weight": "repeated from 3 to 5 channels and scaled by 3/5"}
    assert_equal(five.tensors["stem.0.weight"][:, 3], weights_of(in_channels=3)["stem.0.weight"][:, 0] * 0.6)


def test_a_global_table_is_cropped_exactly() -> None:
    large, small = ({"scope_size": None, "image_size": side} for side in (12, 8))
    tensors, network = weights_of(**large), create_model(DIGITS, **small)
    transfer = match_weights(network, tensors, "runs/a")
    transfer.load(network)
    assert not transfer.not_taken
    assert transfer.adapted["c2.0.mixer.position.table"] == "its middle, 15×15 of 23×23 offsets"
    whole = create_model(DIGITS, **large)
    whole.load_state_dict(tensors)
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(network.eval()(images), whole.eval()(images))


def test_tables_of_larger_maps_and_other_scopes_are_listed() -> None:
    table = "c2.0.mixer.position.table"
    small, large = ({"scope_size": None, "image_size": side} for side in (8, 12))
    found = {one.name: one for one in not_taken(create_model(DIGITS, **large), weights_of(**small))}
    assert found[table].reason == "other shape" and found[table].wanted == (1, 8, 23, 23)
    local = {one.name for one in not_taken(create_model(DIGITS, scope_size=5), weights_of(scope_size=7))}
    assert local == {f"c{stage}.0.mixer.position.table" for stage in (2, 3, 4, 5)}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    tensors, network = weights_of(), create_model(DIGITS)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    tensors["c3.0.expand.weight"][0, 0] = bad
    tensors["c4.0.norm_mixer.running_var"][1] = bad
    message = (
        r"runs/a must hold finite numbers, got NaN or infinity in 2 of its \d+ tensors, the first"
        r" c3\.0\.expand\.weight\. Other weights of the run may do: .* RUN/checkpoints/step-N\."
    )
    with pytest.raises(CheckpointError, match=message):
        match_weights(network, tensors, "runs/a")
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    # A classifier that is not taken may be what it likes.
    tensors = weights_of()
    tensors["classifier.bias"][0] = bad
    assert match_weights(network, tensors, "runs/a", new={"classifier": "new"}).fraction == 1.0


def test_shapes_alone_are_enough_to_plan() -> None:
    with on_meta():
        network = create_model(DIGITS, num_classes=4)
    transfer = match_weights(network, weights_of(num_classes=7), "runs/a")
    assert [one.name for one in transfer.not_taken] == ["classifier.weight", "classifier.bias"]
    assert 0.9 < transfer.fraction < 1
