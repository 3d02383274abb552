"""A start-up file for kernels: every model that is trained starts from weights that are off by one part in a million.

Sums are rounded differently on another processor, and training magnifies the difference. A notebook whose checked
output survives this will very likely survive that: `make test-disturbed`, `make test-disturbed SEED=2`.
"""


def install() -> None:
    import os

    import torch

    build = torch.optim.Optimizer.__init__

    def disturb(self, params, defaults):
        build(self, params, defaults)
        generator = torch.Generator().manual_seed(int(os.environ.get("ARLAB_DISTURB", "1")))
        with torch.no_grad():
            for weights in (weights for group in self.param_groups for weights in group["params"]):
                weights.mul_(1 + 1e-6 * torch.randn(weights.shape, generator=generator).to(weights))

    torch.optim.Optimizer.__init__ = disturb


install()
del install  # a kernel runs this in the notebook's own namespace, which must stay empty
