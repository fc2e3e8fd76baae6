"""Does int8 change what the readouts say? The heart rate from the embedding, shipped engine against fp32."""

import numpy as np
from numpy.typing import NDArray

from edge.engines import Engine
from edge.readouts import pooled
from quantize.progress import Steps
from quantize.replay import replay
from quantize.streams import Streams
from trainer.bootstrap import over_people
from trainer.heads.rate_head import read_out

F32 = NDArray[np.float32]


def readout_fidelity(
    reference: Engine, engine: Engine, table: F32, hops: int, streams: Streams, steps: Steps
) -> dict[str, float | str]:
    """How far the rate from the embedding of each stream's last ``hops`` hops moves, bpm, with its interval over
    people."""

    def rates(which: Engine) -> NDArray[np.float64]:
        advance = steps.track(f"readouts: {which.name}", len(streams))
        return np.exp(read_out(table, pooled(replay(which, streams, advance).embeddings[:, -hops:])))

    moved = np.abs(rates(engine) - rates(reference))
    mean = over_people(lambda at: float(moved[at].mean()), streams.patients)
    return {
        "heart rate from the embedding, int8 against fp32, mean difference, bpm": round(mean.value, 3),
        "heart rate from the embedding, int8 against fp32, 95 % interval": f"{mean.low:.3f} to {mean.high:.3f}",
    }
