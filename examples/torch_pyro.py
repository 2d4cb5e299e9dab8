"""A fitted density as a prior in Pyro: pip install "scoreode[torch]" pyro-ppl.

The rows are normal, so that the posterior is known: a product of two normal densities.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer import MCMC, NUTS

from scoreode import ScoreODE
from scoreode.adapters.torch import Distribution

NOISE, DRAWS = 0.5, 200


class Prior(Distribution, TorchDistributionMixin):
    """The fitted density with the methods that Pyro wants."""


rng = np.random.default_rng(0)
covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
mean = np.array([3.0, -1.0])
X = rng.multivariate_normal(mean, covariance, 2000)
est = ScoreODE(order=1, steps=500, stack=False).fit(X)
prior = Prior(est)
observed = torch.tensor([4.0, 0.5])


def model() -> None:
    x = pyro.sample("x", prior)
    pyro.sample("y", dist.Normal(x, NOISE).to_event(1), obs=observed)


pyro.set_rng_seed(0)
start = {"x": torch.tensor(X.mean(0), dtype=torch.float32)}
sampler = MCMC(NUTS(model, max_tree_depth=4), DRAWS, 50, initial_params=start, disable_progbar=True)
sampler.run()
draws = sampler.get_samples()["x"].numpy()

precision = np.linalg.inv(covariance) + np.eye(2) / NOISE**2
known = np.linalg.solve(precision, np.linalg.solve(covariance, mean) + observed.numpy() / NOISE**2)
deviation = np.sqrt(np.diag(np.linalg.inv(precision)))
print("posterior mean       ", draws.mean(0).round(3), " known", known.round(3))
print("standard deviation   ", draws.std(0).round(3), " known", deviation.round(3))
effective = sampler.diagnostics()["x"]["n_eff"].numpy()
standard_error = deviation / np.sqrt(effective)
print("error / standard error", ((draws.mean(0) - known) / standard_error).round(2))
