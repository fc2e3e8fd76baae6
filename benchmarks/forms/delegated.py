"""How much of a LiteRT graph its XNNPACK delegate takes."""

from dataclasses import dataclass
from typing import Any

from quantize.quiet import quiet_libraries


@dataclass(frozen=True)
class Delegated:
    """``taken`` of ``operators`` operators run inside ``parts`` delegated subgraphs; ``left``: names of the others."""

    operators: int
    taken: int
    parts: int
    left: dict[str, int]

    @property
    def share(self) -> float:
        """Of the operators, 0–1."""
        return self.taken / self.operators


def litert_delegated(model: bytes) -> Delegated:
    """What the delegate of the installed LiteRT takes of ``model``.

    The interpreter lists the delegated subgraphs as operators behind the original ones: what lies between a
    subgraph's inputs and outputs is inside it.
    """
    with quiet_libraries():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
        listed: list[dict[str, Any]] = interpreter._get_ops_details()
    original = [op for op in listed if op["op_name"] != "DELEGATE"]
    parts = [op for op in listed if op["op_name"] == "DELEGATE"]
    maker = {int(tensor): i for i, op in enumerate(original) for tensor in op["outputs"]}
    taken: set[int] = set()
    for part in parts:
        given = {int(tensor) for tensor in part["inputs"]}
        todo = [int(tensor) for tensor in part["outputs"]]
        while todo:
            tensor = todo.pop()
            at = maker.get(tensor)
            if at is None or at in taken or tensor in given:
                continue
            taken.add(at)
            todo += [int(source) for source in original[at]["inputs"]]
    left: dict[str, int] = {}
    for i, op in enumerate(original):
        if i not in taken:
            left[op["op_name"]] = left.get(op["op_name"], 0) + 1
    return Delegated(len(original), len(taken), len(parts), left)
