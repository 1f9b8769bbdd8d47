"""Trains the network and writes its weights, which is all that Assay wants of it."""

from collections.abc import Iterable

import numpy as np
import torch
from net import build
from shapes import Shapes
from torch.nn.functional import cross_entropy

STEPS, BATCH, RATE = 200, 30, 0.01


def tensors(pairs: Iterable[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = zip(*pairs, strict=True)
    # Assay prepares bytes in the same way unless the dataset says otherwise.
    return torch.from_numpy(np.stack(x)).float()[:, None] / 255, torch.tensor(y)


torch.manual_seed(0)
net = build()
x, y = tensors(Shapes().train())
optimiser = torch.optim.Adam(net.parameters(), RATE)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
for _ in range(STEPS):
    chosen = torch.randint(len(x), (BATCH,))
    optimiser.zero_grad()
    cross_entropy(net(x[chosen]), y[chosen]).backward()
    optimiser.step()
    schedule.step()
net.eval()
x, y = tensors(Shapes().test())
print(f"{(net(x).argmax(1) == y).float().mean():.3f} of the test pictures are right")
torch.save(net.state_dict(), "weights.pt")
