"""Which connections of a neuron are trained, and that the others do not move."""

import torch
from torch import nn

from mtlue_cli.training.methods import TrainedConnections, find_neurons, strongest


def test_the_strongest_connections_of_each_neuron_by_hand() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0], [0.5, 0.1, 0.4]])
    assert strongest(scores, 1).tolist() == [[False, True, False], [True, False, False]]
    assert strongest(scores, 2).tolist() == [[False, True, True], [True, False, True]]
    assert bool(strongest(scores, 7).all())


def test_a_filter_is_one_neuron_in_any_memory_layout() -> None:
    scores = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2).float().to(memory_format=torch.channels_last)
    mask = strongest(scores, 2)
    assert torch.nonzero(mask).tolist() == [[0, 2, 1, 0], [0, 2, 1, 1], [1, 2, 1, 0], [1, 2, 1, 1]]


def test_neurons_are_found_wherever_there_are_incoming_connections() -> None:
    attention, norm = nn.MultiheadAttention(4, 2), nn.LayerNorm(4)
    conv, linear = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 2)
    neurons = find_neurons(nn.ModuleList([conv, norm, attention, linear]))
    weights = [conv.weight, attention.in_proj_weight, attention.out_proj.weight, linear.weight]
    biases = [attention.in_proj_bias, attention.out_proj.bias, linear.bias]
    assert [id(weight) for weight in neurons.weights] == [id(weight) for weight in weights]
    assert [id(bias) for bias in neurons.biases] == [id(bias) for bias in biases]


def test_momentum_and_weight_decay_move_nothing_that_is_held() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.1]]))
    start = weight.detach().clone()
    chosen = torch.tensor([[True, False], [False, True]])
    connections = TrainedConnections({weight: chosen})
    optimizer = torch.optim.Adam([weight], 0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()  # type: ignore[no-untyped-call]  # untyped in torch
        connections.mask_gradients()
        assert weight.grad is not None
        assert (weight.grad != 0).tolist() == chosen.tolist()
        optimizer.step()
        connections.restore()
    assert (weight.detach() == start).tolist() == (~chosen).tolist()


def test_a_held_connection_is_masked_even_if_its_gradient_is_not_a_number() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))
    weight.grad = torch.tensor([[0.5, float("nan")]])
    TrainedConnections({weight: torch.tensor([[True, False]])}).mask_gradients()
    assert weight.grad.tolist() == [[0.5, 0.0]]
