"""A network that is looked at: batch statistics, no dropout, no trace."""

import torch
from torch import nn

from mtlue_cli.verification.countermeasures.base import steady


def make_network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(16))


def images() -> torch.Tensor:
    return torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_within_it_is_without_chance_and_uses_the_statistics_of_the_batch() -> None:
    network = make_network().train()
    with torch.no_grad(), steady(network):
        first, second = network(images()), network(images())
    assert torch.equal(first, second)
    # The last layer normalises every feature over the batch itself.
    assert torch.allclose(first.mean(0), torch.zeros(16), atol=1e-5)


def test_afterwards_modes_and_statistics_are_as_before() -> None:
    network = make_network().train()
    network[4].eval()  # a frozen part keeps its mode within and afterwards
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad(), steady(network):
        assert [module.training for module in network] == [False, True, False, False, False]
        network(images())
    assert [module.training for module in network] == [True, True, True, True, False]
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    network(images())
    assert not torch.equal(state["1.running_mean"], network.state_dict()["1.running_mean"])


def test_an_error_within_does_not_leave_it_changed() -> None:
    network = make_network().train()
    try:
        with steady(network):
            network(torch.zeros(2, 5, 2, 2))
    except RuntimeError:
        pass
    assert all(module.training for module in network.modules())
    assert all(module.track_running_stats for module in network if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d))
