"""A run's folder: what it was asked for, what it reached, and its weights — readable without this package.

``config.json``, ``history.json`` (one object per epoch), ``checkpoints/`` (to resume), ``tokenizer.safetensors`` or
``encoder.safetensors``, ``tokens.npz`` (stage 1), ``plots/*.png``.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from firmware_bridge.errors import BadInput
from trainer import ranks

Kind = Literal["tokenizer", "encoder", "finetune"]
History = list[dict[str, float]]


def write_json(path: Path, content: object) -> None:
    """Write whole or not at all, so that an interrupted run leaves a valid file."""
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"run file {path}: cannot be read ({error})") from None


@dataclass(frozen=True)
class RunFolder:
    """One training run on disk."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of Lightning's checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint of the last whole epoch."""
        return self.checkpoints / "last.ckpt"

    @property
    def plots(self) -> Path:
        """Folder of the pictures."""
        return self.path / "plots"

    @property
    def tokens(self) -> Path:
        """Stage 1's own tokens of the validation windows."""
        return self.path / "tokens.npz"

    def weights(self, kind: Kind) -> Path:
        """The file of the trained weights; it exists once the run has finished."""
        return self.path / f"{kind}.safetensors"

    def start(self, config: dict[str, Any], *, resume: bool) -> None:
        """Create the folder and write ``config.json``, or check that a resumed run is the same run. Of several ranks
        the first does so, and the others check that they are of the same run.

        Raises :class:`BadInput` if the folder holds a run and ``resume`` is false, or holds a different run.
        """
        with ranks.first_first():
            self._start(config, resume=resume or ranks.rank() > 0)

    def _start(self, config: dict[str, Any], *, resume: bool) -> None:
        file = self.path / "config.json"
        config = json.loads(json.dumps(config))  # as it reads back
        if file.exists():
            if not resume:
                raise BadInput(
                    f"run folder {self.path}: already holds a run; go on with --resume or give another --out"
                )
            before = _read_json(file)
            changed = sorted(key for key in config.keys() | before.keys() if config.get(key) != before.get(key))
            if changed:
                raise BadInput(
                    f"run folder {self.path}: cannot resume, config.json differs in {', '.join(changed)}; "
                    "give the same options and data, or another --out"
                )
            return
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_json(file, config)
        except OSError as error:
            raise BadInput(f"run folder {self.path}: cannot be written ({error.strerror})") from None

    def config(self, kind: Kind) -> dict[str, Any]:
        """``config.json`` of a run of this kind; raises :class:`BadInput` if it is not one."""
        if not self.path.is_dir():
            raise BadInput(f"run folder {self.path}: no such folder; make it with `pulsecode train {kind}`")
        if not (self.path / "config.json").exists():
            raise BadInput(f"run folder {self.path}: has no config.json; make it with `pulsecode train {kind}`")
        raw = _read_json(self.path / "config.json")
        if not isinstance(raw, dict) or raw.get("kind") != kind:
            raise BadInput(
                f"run folder {self.path}: config.json is not of {'an' if kind == 'encoder' else 'a'} {kind} run"
            )
        return raw

    def history(self) -> History:
        """One dictionary per finished epoch."""
        file = self.path / "history.json"
        history: History = _read_json(file) if file.exists() else []
        return history

    def save_weights(self, kind: Kind, module: nn.Module) -> None:
        """Write every parameter and buffer of ``module``: rank 0 does, and no rank goes on before it has."""
        if ranks.rank() == 0:
            self._save(kind, module)
        ranks.wait()

    def _save(self, kind: Kind, module: nn.Module) -> None:
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in module.state_dict().items()}
        file = self.weights(kind)
        temporary = file.with_name(f".{file.name}.unfinished")
        save_file(tensors, temporary)
        os.replace(temporary, file)

    def load_weights(self, kind: Kind, module: nn.Module) -> None:
        """Fill ``module`` from the run; every key and shape must match. Raises :class:`BadInput` otherwise."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.weights(kind)
        if not file.exists():
            raise BadInput(
                f"run folder {self.path}: has no {file.name}; finish it with `pulsecode train {kind} --resume`"
            )
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except (SafetensorError, OSError) as error:
            raise BadInput(f"weights {file}: cannot be read ({error}); train the {kind} again") from None
        expected = module.state_dict()
        wrong = sorted(
            name
            for name in expected.keys() | tensors.keys()
            if name not in tensors or name not in expected or tensors[name].shape != expected[name].shape
        )
        if wrong:
            shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            raise BadInput(f"weights {file}: do not fit config.json: {shown}; train the {kind} again")
        module.load_state_dict(tensors, strict=True)
