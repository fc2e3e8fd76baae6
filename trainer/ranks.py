"""Several processes, one training. Alone, each of these does nothing.

``torchrun --nproc-per-node N --no-python -- pulsecode train …`` starts N of them (without the ``--`` torchrun takes
``--signal`` for an option of its own); the numbers 0 to N - 1 they go by are their ranks, and rank 0 is the one that
prepares, prints and writes.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from firmware_bridge.errors import PulsecodeError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Waiting for rank 0 to prepare a large data set is no fault; a process that ends is noticed at once all the same.
PATIENCE = timedelta(days=2)


class Deserted(PulsecodeError):
    """Another process of this training has ended."""

    exit_status = 3


@contextmanager
def joined() -> Iterator[None]:
    """Be one of torchrun's processes for the length of the block; without torchrun, or within such a block, do
    nothing.

    What is wrong with the input is wrong for all: one process a machine says so, and the others end in silence with
    the same status. Raises :class:`Deserted` where another process has ended.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched() or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        yield
    except PulsecodeError as error:
        if speaks:
            raise
        raise SystemExit(error.exit_status) from None
    except RuntimeError as error:
        if not _is_desertion(error):
            raise
        if speaks:
            raise Deserted("another process of this training has ended; what it said is above") from None
        raise SystemExit(Deserted.exit_status) from None
    finally:
        distributed.destroy_process_group()


def _is_desertion(error: RuntimeError) -> bool:
    """Whether a collective failed for want of a peer; gloo has no exception of its own for it."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()


def rank() -> int:
    """This process's number, 0 for the first or only one."""
    return distributed.get_rank() if _several() else 0


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _several() else 1


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def summed(tensor: Tensor) -> Tensor:
    """The sum over all ranks, the same bits on each; the argument is left alone."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    distributed.all_reduce(total)
    return total


def summed_by_name(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each name's sum over the ranks that have it, on the CPU, in the same order on every rank."""
    total: dict[str, Tensor] = {}
    for some in _from_all({name: tensor.cpu() for name, tensor in tensors.items()}):
        for name, tensor in some.items():
            total[name] = total[name] + tensor if name in total else tensor
    return total


def gathered(tensor: Tensor) -> Tensor:
    """All ranks' rows in the order of ranks: (n, …) on each → (world size · n, …). Shapes must be equal."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def from_first(tensor: Tensor) -> Tensor:
    """Rank 0's tensor, of the same shape and type, on every rank."""
    if world_size() == 1:
        return tensor
    same = tensor.clone()
    distributed.broadcast(same, src=0)
    return same


def shared_out(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``[work(item) for item in items]`` on every rank, each having done its share of it."""
    several, me = world_size(), rank()
    shares = _from_all([work(item) for item in items[me::several]])
    return [shares[i % several][i // several] for i in range(len(items))]


@contextmanager
def first_first() -> Iterator[None]:
    """Rank 0 goes through the block first and leaves behind what the others then find there."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()


def wait() -> None:
    """Until all ranks are here."""
    if world_size() > 1:
        distributed.barrier()


def _from_all(mine: Result) -> list[Result]:
    """Every rank's value, in the order of ranks."""
    if world_size() == 1:
        return [mine]
    everyone: list[Any] = [None] * world_size()
    distributed.all_gather_object(everyone, mine)
    return everyone
