"""Where networks run."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from mtlue_cli.errors import InputError, first_line
from mtlue_cli.options import launched_as

ModuleT = TypeVar("ModuleT", bound=nn.Module)
ResultT = TypeVar("ResultT")

_RANDOM = threading.RLock()
"""Held while the global random numbers are seeded: modules within modules seed their own."""
_STARTING = threading.Lock()
"""Held while the number of torch's threads for threads to come is another."""


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: No such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available here", [first_line(error)], "try cpu") from None
    return device


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together, each on its own part of every batch.

    Attributes:
        rank: Number of this one; the main process, which writes files and messages, is 0.
        count: How many there are.
        device: Where this one computes; None: it is alone and may choose.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def parts(self, batch: int, accumulate: int) -> list[slice]:
        """The rows of a batch that this process computes, in ``accumulate`` parts of equal size, one after the other.

        ``batch`` is a multiple of ``count * accumulate``; together the processes compute every row once.
        """
        size = batch // (self.count * accumulate)
        first = self.rank * accumulate
        return [slice(part * size, (part + 1) * size) for part in range(first, first + accumulate)]

    def rows(self, batch: int) -> slice:
        """The rows of a batch of any size that this process computes; all, if there are fewer than two for each."""
        if batch < 2 * self.count:
            return slice(batch)
        return slice(self.rank * batch // self.count, (self.rank + 1) * batch // self.count)

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over the processes, the same on all."""
        if self.count == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(summed)
        return [value / self.count for value in summed.tolist()]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over the processes; one that is missing here counts as zero."""
        if self.count == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:  # no label of its task in this part of the batch
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self.average(gradients)

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.count == 1 or not gradients:
            return
        joint = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(joint)
        joint /= self.count
        means: Sequence[Tensor] = torch.split(joint, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the main process."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def hand_out(self, order: object) -> None:
        """Send something that can be pickled from the main process to the others, which :meth:`receive` it."""
        distributed.broadcast_object_list([order], device=self.device)

    def receive(self) -> Any:  # noqa: ANN401 - whatever the main process hands out
        """Wait for what the main process hands out."""
        order: list[Any] = [None]
        distributed.broadcast_object_list(order, device=self.device)
        return order[0]

    def on_main(self, compute: Callable[[], ResultT]) -> ResultT:
        """What ``compute`` gives on the main process, handed to all; the others wait for it.

        Raises:
            BaseException: Whatever it raises, on all of them.
        """
        if self.count == 1:
            return compute()
        outcome: Any
        if self.is_main:
            try:
                outcome = compute(), None
            except BaseException as error:
                outcome = None, error
            self.hand_out(outcome)
        else:
            outcome = self.receive()
        result: ResultT
        result, fault = outcome
        if fault is not None:
            raise fault
        return result


ALONE = Processes()

_TOGETHER: ContextVar[Processes] = ContextVar("processes that train each network together", default=ALONE)


def training_processes() -> Processes:
    """The processes that train each network of this thread together: :data:`ALONE`, or what was set last."""
    return _TOGETHER.get()


@contextmanager
def training_together(processes: Processes) -> Iterator[None]:
    """Within it all ``processes`` train each network together; all of them must train the same ones in this order."""
    token = _TOGETHER.set(processes)
    try:
        yield
    finally:
        _TOGETHER.reset(token)


@contextmanager
def launched_processes(device: str) -> Iterator[Processes]:
    """The processes that ``accelerate launch`` or ``torchrun`` started, connected; one alone if neither did.

    ``device`` is ``cpu``, or any other word for the accelerator of each process.

    Raises:
        InputError: There are several, and the package accelerate is not installed.
    """
    if launched_as()[1] == 1:
        yield ALONE
        return
    try:
        from accelerate import PartialState
    except ImportError:
        raise InputError(
            "training in several processes needs the package accelerate, which is not installed",
            hint="pip install 'mtlue[accelerate]'",
        ) from None
    # The functions of this module keep the process group as a default argument if it exists when they are imported. The
    # group then outlives its destruction, and its threads may abort the process while Python ends.
    import torch.distributed.nn.functional  # noqa: F401

    # The others wait while the main process trains the surrogate, however long that takes.
    state = PartialState(cpu=device == "cpu", timeout=timedelta(days=7))
    try:
        yield Processes(state.process_index, state.num_processes, state.device)
    finally:
        state.destroy_process_group()


def describe_device(device: torch.device) -> str:
    """The device in words, for the first line of a run."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return str(device)


def on_device(module: ModuleT, device: torch.device) -> ModuleT:
    """The module on ``device`` with channels-last weights, the faster layout for convolutions."""
    return module.to(device).to(memory_format=torch.channels_last)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it random numbers on the CPU start from ``seed``; then they are as before. One thread at a time."""
    with own_random_numbers():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
        yield


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Puts the state of torch's random numbers on the CPU back at the end. One thread at a time."""
    with _RANDOM, torch.random.fork_rng(devices=[]):
        yield


def compute_alone(pool: Executor, workers: int) -> None:
    """Let each of the ``workers`` threads of a fresh pool compute networks on a CPU without threads of torch's own.

    Torch keeps the number for each thread, and one more for threads to come: that one is as before when this returns.
    """
    with _STARTING:
        before = torch.get_num_threads()
        started = threading.Barrier(workers)

        def start() -> None:
            torch.get_num_threads()  # the first question sets the thread's number to the common one
            torch.set_num_threads(1)
            started.wait()  # so that no thread takes two of these

        try:
            for future in [pool.submit(start) for _ in range(workers)]:
                future.result()
        finally:
            started.abort()  # an interrupted caller leaves no thread waiting
            torch.set_num_threads(before)
