"""A fitted density as the prior of sbi: pip install "scoreode[torch]" sbi.

Parameters are known by rows alone, as those of a former analysis. The prior is fitted to them, and
the posterior is found twice: by NPE from simulations of draws from the prior, and by MCMC over the
potential, prior times likelihood. All laws are normal, so that the posterior is known.
"""

import numpy as np
import torch
from sbi.inference import NPE, MCMCPosterior
from sbi.utils import process_prior

from scoreode import ScoreODE
from scoreode.adapters.torch import Distribution

NOISE, DRAWS, SIMULATIONS = 0.5, 500, 2000

rng = np.random.default_rng(0)
covariance, mean = np.array([[1.0, 0.8], [0.8, 1.0]]), np.array([3.0, -1.0])
X = rng.multivariate_normal(mean, covariance, 2000)
est = ScoreODE(order=1, steps=500, stack=False).fit(X)
prior, _, _ = process_prior(Distribution(est))
observed = torch.tensor([[4.0, 0.5]])


def simulate(theta: torch.Tensor) -> torch.Tensor:
    return theta + NOISE * torch.randn_like(theta)


def potential(theta: torch.Tensor, x_o: torch.Tensor) -> torch.Tensor:
    """log p(θ) + log p(x_o | θ)."""
    likelihood = torch.distributions.Normal(theta, NOISE).log_prob(x_o).sum(-1)
    return prior.log_prob(theta) + likelihood


precision = np.linalg.inv(covariance) + np.eye(2) / NOISE**2
known = np.linalg.solve(
    precision, np.linalg.solve(covariance, mean) + observed[0].numpy() / NOISE**2
)
deviation = np.sqrt(np.diag(np.linalg.inv(precision)))
print("known  mean", known.round(3), " deviation", deviation.round(3))

torch.manual_seed(0)
theta = prior.sample((SIMULATIONS,))
inference = NPE(prior=prior, density_estimator="maf", show_progress_bars=False)
inference.append_simulations(theta, simulate(theta)).train(max_num_epochs=50)
posterior = inference.build_posterior()
draws = posterior.sample((DRAWS,), x=observed, show_progress_bars=False).numpy()
print("NPE    mean", draws.mean(0).round(3), " deviation", draws.std(0).round(3))

chains = MCMCPosterior(
    potential,
    prior,
    method="slice_np_vectorized",
    num_chains=100,
    warmup_steps=10,
    thin=1,
    init_strategy="proposal",
)
draws = chains.sample((DRAWS,), x=observed, show_progress_bars=False).numpy()
print("MCMC   mean", draws.mean(0).round(3), " deviation", draws.std(0).round(3))
