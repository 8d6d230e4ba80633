"""CUDA graphs: many launches as one. Those of plans that repeat are built launch by launch, so that arguments can be changed; those that
a program asks for are captured from a stream."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p

from .cuda import Call, Device

RELAXED = 2     # a mode of capture: memory may be allocated and code loaded meanwhile


class _KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS of cuda.h, as it was first."""

    _fields_ = [("function", c_void_p), *((name, c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
                ("parameters", c_void_p), ("extra", c_void_p)]


def known(device: Device) -> bool:
    """Whether the driver knows graphs."""
    return hasattr(device.driver.library, "cuGraphAddKernelNode")


class Graph:
    """Something that is launched as one."""

    def __init__(self, device: Device):
        self.device, self.executable = device, c_void_p()

    def instantiate(self, graph: c_void_p) -> None:
        self.device.call("cuGraphInstantiateWithFlags", byref(self.executable), graph, c_uint64(0))

    def launch(self) -> None:
        """Launch it in the current stream."""
        self.device.call("cuGraphLaunch", self.executable, c_void_p(self.device.stream))
        self.device.launches += 1

    def __del__(self) -> None:
        if self.executable:
            self.device.let_go("cuGraphExecDestroy", self.executable)


class PlanGraph(Graph):
    """The steps of a plan, each after the one before, for one stream. What a library launches is captured, as a graph of its own within
    this one."""

    def __init__(self, device: Device, calls: list):
        super().__init__(device)
        self.calls = calls          # they hold what the nodes point to
        self.graph, self.stream = c_void_p(), device.stream
        device.call("cuGraphCreate", byref(self.graph), c_uint(0))
        self.nodes: list[c_void_p] = []
        self.parameters: list = []
        for call in calls:
            self.nodes.append(self._node(call, (c_void_p * 1)(self.nodes[-1]) if self.nodes else None))
        self.instantiate(self.graph)

    def __del__(self) -> None:
        super().__del__()
        for parameters in self.parameters:
            if type(parameters) is c_void_p:        # a graph within this one
                self.device.let_go("cuGraphDestroy", parameters)
        if self.graph:
            self.device.let_go("cuGraphDestroy", self.graph)

    def _node(self, call, before) -> c_void_p:
        node, count = c_void_p(), c_size_t(1 if before else 0)
        if isinstance(call, Call):
            parameters = _KernelNode(call.function, *call.shape, call.shared, None, ctypes.addressof(call.extra))
            self.device.call("cuGraphAddKernelNode", byref(node), self.graph, before, count, byref(parameters))
        else:
            parameters = self._captured(call)
            self.device.call("cuGraphAddChildGraphNode", byref(node), self.graph, before, count, parameters)
        self.parameters.append(parameters)
        return node

    def _captured(self, call) -> c_void_p:
        with Capture(self.device) as capture:
            call.launch(self.device)
        return capture.graph

    def update(self, i: int) -> None:
        """Read the words of one step anew, for the launches to come."""
        if isinstance(self.calls[i], Call):
            self.device.call("cuGraphExecKernelNodeSetParams", self.executable, self.nodes[i], byref(self.parameters[i]))
            return
        self.device.call("cuGraphDestroy", self.parameters[i])
        self.parameters[i] = self._captured(self.calls[i])
        self.device.call("cuGraphExecChildGraphNodeSetParams", self.executable, self.nodes[i], self.parameters[i])


class Capture:
    """`with Capture(device) as c:` what is launched is not carried out, but becomes `c.graph`. `stream`: in which; by default one of its
    own."""

    def __init__(self, device: Device, stream: int | None = None):
        self.device, self.graph = device, c_void_p()
        self.stream = device.new_stream() if stream is None else stream
        self.own = stream is None

    def __enter__(self) -> Capture:
        self.before, self.device.stream = self.device.stream, self.stream
        self.device.streams.beneath = self.before if self.own else None
        self.device.call("cuStreamBeginCapture_v2", c_void_p(self.stream), c_int(RELAXED))
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.device.call("cuStreamEndCapture", c_void_p(self.stream), byref(self.graph))
        except RuntimeError:
            if kind is None:        # otherwise the first error is told
                raise
        finally:
            self.device.stream, self.device.streams.beneath = self.before, None
            if self.own:
                self.device.call("cuStreamDestroy_v2", c_void_p(self.stream))
