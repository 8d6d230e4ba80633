"""torch.distributed: processes that exchange tensors over sockets, and DistributedDataParallel."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import antorcha as torch
from antorcha import distributed as dist

BEGIN = """
import antorcha as torch
from antorcha import distributed as dist, nn
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
"""


@contextlib.contextmanager
def free_port():
    """A port that the system gives to nobody else meanwhile (on Linux; elsewhere none may listen where another is bound)."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port


def run(body: str, size: int, timeout: float = 500.0) -> None:
    """Run a script in `size` processes; all must end well."""
    with free_port() as port:
        errors, codes = _run(body, size, port, timeout)
    assert codes == [0] * size, "\n".join(errors)


def _run(body: str, size: int, port: int, timeout: float) -> tuple[list[str], list[int]]:
    """(what the processes wrote to their standard errors, their exit statuses)."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size),
                   "PYTHONPATH": str(Path(__file__).parent.parent)}
    started = [
        subprocess.Popen([sys.executable, "-c", BEGIN + body], env={**environment, "RANK": str(i)}, stderr=subprocess.PIPE, text=True)
        for i in range(size)
    ]
    try:
        return [p.communicate(timeout=timeout)[1] for p in started], [p.returncode for p in started]
    finally:
        for p in started:
            p.kill()


def test_collective_operations():
    run("""
x = torch.arange(5.0) + rank
dist.all_reduce(x)
assert x.tolist() == [3.0 + 3 * i for i in range(5)], x
y = torch.tensor([float(rank)], dtype=torch.bfloat16)
dist.all_reduce(y, dist.ReduceOp.MAX)
assert y.item() == 2 and y.dtype is torch.bfloat16
z = torch.full((2, 2), float(rank)).T
dist.broadcast(z, 1)
assert z.tolist() == [[1.0, 1.0]] * 2
parts = [torch.empty(2, dtype=torch.int64) for _ in range(size)]
assert dist.all_gather(parts, torch.tensor([rank, -rank]), async_op=True).wait()
assert torch.stack(parts).tolist() == [[0, 0], [1, -1], [2, -2]]
whole = torch.empty(6)
dist.all_gather_into_tensor(whole, torch.full((2,), float(rank)))
assert whole.tolist() == [0, 0, 1, 1, 2, 2]
part = torch.empty(2)
dist.reduce_scatter_tensor(part, torch.arange(6.0), dist.ReduceOp.AVG)
assert part.tolist() == [2.0 * rank, 2.0 * rank + 1]
out = torch.empty(3)
dist.all_to_all_single(out, torch.arange(3.0) + 10 * rank)
assert out.tolist() == [rank, 10 + rank, 20 + rank]
uneven = torch.empty(rank * 3)
dist.all_to_all_single(uneven, torch.arange(3.0), [rank] * 3, [0, 1, 2])
assert len(uneven) == 3 * rank
r = torch.ones(1)
dist.reduce(r, 2)
assert r.item() == (3 if rank == 2 else 1)
got = torch.empty(1)
dist.scatter(got, [torch.tensor([float(i)]) for i in range(3)] if rank == 0 else None, 0)
assert got.item() == rank
kept = [torch.empty(1) for _ in range(3)] if rank == 1 else None
dist.gather(got, kept, 1)
assert kept is None or torch.cat(kept).tolist() == [0, 1, 2]
objects = [None] * 3
dist.all_gather_object(objects, {"rank": rank})
assert objects == [{"rank": i} for i in range(3)]
words = ["a", rank] if rank == 0 else [None, None]
dist.broadcast_object_list(words, 0)
assert words == ["a", 0]
if rank == 0:
    dist.send(torch.tensor([7.0]), 2)
elif rank == 2:
    t = torch.empty(1)
    assert dist.recv(t) == 0 and t.item() == 7
work = dist.irecv(t := torch.empty(1), (rank - 1) % 3, tag=4)
dist.isend(torch.tensor([float(rank)]), (rank + 1) % 3, tag=4).wait()
work.wait()
assert t.item() == (rank - 1) % 3
pair = dist.new_group([0, 2])
if rank != 1:
    v = torch.ones(1)
    dist.all_reduce(v, group=pair)
    assert v.item() == 2 and dist.get_process_group_ranks(pair) == [0, 2] and dist.get_rank(pair) == (0, None, 1)[rank]
else:
    assert dist.get_rank(pair) == -1
dist.barrier()
dist.destroy_process_group()
assert not dist.is_initialized()
""", 3)


def test_models_train_as_one():
    run("""
torch.manual_seed(rank)
model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
together = nn.parallel.DistributedDataParallel(model)
alone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
alone.load_state_dict(model.state_dict())
torch.manual_seed(7)
data = torch.randn(2, 6, 3)
sampler = torch.utils.data.DistributedSampler(list(range(10)), shuffle=False)
assert list(sampler) == list(range(rank, 10, 2))
together(data[rank]).pow(2).mean().backward()
want = [torch.zeros_like(p) for p in alone.parameters()]
for part in data:
    alone.load_state_dict({k.removeprefix("module."): v for k, v in together.state_dict().items()})
    for w, g in zip(want, torch.autograd.grad(alone(part).pow(2).mean(), list(alone.parameters()))):
        w += g / 2
assert all(torch.allclose(p.grad, w, atol=1e-6) for p, w in zip(model.parameters(), want))
optimizer = torch.optim.SGD(together.parameters(), 0.1)
with together.no_sync():
    together(data[rank]).sum().backward()
together(data[rank]).sum().backward()
optimizer.step()
weights = [torch.empty(4, 3) for _ in range(2)]
dist.all_gather(weights, model[0].weight)
assert torch.equal(*weights)
partial = nn.parallel.DistributedDataParallel(nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}))
try:
    partial.module["a"](torch.ones(1, 1)).sum().backward()
except RuntimeError as error:
    assert "find_unused_parameters" in str(error) and "b.weight" in str(error)
else:
    raise AssertionError("unused parameters were not found")
mesh = dist.device_mesh.init_device_mesh("cpu", (2, 1), mesh_dim_names=("data", "model"))
assert mesh["data"].size() == 2 and mesh.get_local_rank("data") == rank and mesh.get_group("model").size() == 1
""", 2)


def test_a_process_that_ends_is_told():
    run("""
import sys
if rank == 1:
    sys.exit(0)
try:
    dist.all_reduce(torch.ones(1))
except RuntimeError as error:
    assert "process 1 has ended" in str(error), error
else:
    raise AssertionError
""", 2)


def test_one_process_alone():
    with pytest.raises(ValueError, match="init_process_group"):
        dist.all_reduce(torch.ones(1))
    with pytest.raises(RuntimeError, match="gloo"):
        dist.init_process_group("nccl")
    with pytest.raises(RuntimeError, match="has not been initialized"):
        torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    try:
        x = torch.ones(2)
        dist.all_reduce(x)
        dist.barrier()
        assert x.tolist() == [1.0, 1.0] and dist.get_world_size() == 1 and dist.get_backend() == "gloo"
    finally:
        dist.destroy_process_group()


def test_what_is_missing_says_what_to_use():
    from antorcha.distributed.fsdp import FullyShardedDataParallel
    from antorcha.distributed.tensor import DTensor
    assert not isinstance(torch.ones(1), DTensor)
    with pytest.raises(NotImplementedError, match="DistributedDataParallel"):
        FullyShardedDataParallel(None)
    with pytest.raises(NotImplementedError, match="send"):
        dist.rpc.init_rpc("worker")
    with pytest.raises(AttributeError, match="missing in antorcha"):
        dist.TCPStore  # noqa: B018
