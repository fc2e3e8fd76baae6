"""Shifted windows are the same signal cut later; an epoch sees every window once."""

import numpy as np
import torch

from trainer.fitting import FitConfig, train_batches
from trainer.phases import PhasedRows, shifted


def test_a_shifted_window_is_the_same_signal_cut_later() -> None:
    signal = np.arange(3 * 6 * 5, dtype=np.float32).reshape(3, 6, 5)
    cut = shifted(signal, 2)
    assert cut.shape == (3, 5, 5)
    assert np.array_equal(cut[1].ravel(), np.arange(32, 57))
    assert np.array_equal(shifted(signal, 0), signal[:, :5])


def test_rows_are_windows_at_phases_with_the_labels_of_that_phase() -> None:
    signal = torch.arange(90.0).view(3, 6, 5)
    labels = torch.arange(6).view(2, 3)
    rows = PhasedRows((signal, -signal), [0, 3], (labels,))
    a, b, label = rows[[1, 1 + 3, 2 + 3]]
    assert torch.equal(a[1], torch.tensor(shifted(signal.numpy(), 3)[1]))
    assert torch.equal(a[0], signal[1, :5])
    assert torch.equal(b, -a)
    assert label.tolist() == [1, 4, 5]


def test_an_epoch_sees_every_window_once_and_epochs_differ_in_phase() -> None:
    rows = PhasedRows((torch.zeros(64, 3, 10),), range(10))
    batches = train_batches(rows, FitConfig(epochs=1, batch=16))
    order = batches.sampler
    seen = []
    for epoch in (0, 1):
        order.set_epoch(epoch)  # type: ignore[attr-defined]
        drawn = [row for batch in order for row in batch]
        assert sorted(i % 64 for i in drawn) == list(range(64))
        seen.append({i % 64: i // 64 for i in drawn})
    assert set(seen[0].values()) == set(range(10))
    assert sum(seen[0][i] != seen[1][i] for i in range(64)) > 40
