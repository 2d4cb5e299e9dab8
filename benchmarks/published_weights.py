"""Do our networks with published weights compute what the published code computes?

Builds the published models with random weights, saves them as their code does, converts the files,
and compares the outputs at a few noise levels, in float64 and in float32. It needs PyTorch and
diffusers, and checkouts of two repositories that are no packages:

    python benchmarks/published_weights.py --score-sde DIR --guided DIR [--size tiny]

DIR are checkouts of yang-song/score_sde_pytorch and openai/guided-diffusion. Prints JSON: for every
model the number of parameters of both, and the largest deviation over the published outputs'
standard deviation. `--record FILE` keeps the shapes of the parameters and the outputs: with
`--size tiny` it makes tests/model/published_outputs.json.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from torch_files import random_weights

from scoreode.model.convert import convert
from scoreode.model.weights.published import Options

SIZES = {  # image side, width, multipliers, blocks, attention
    "tiny": (8, 8, (1, 2), 1, (4,)),
    "small": (16, 32, (1, 2, 2), 2, (8,)),
    "full": (32, 128, (1, 2, 2, 2), 2, (16,)),
}
INDICES = 3, 990  # steps
SIGMAS = 0.02, 20.0  # of pixels in [0, 1]
TIMES = 0.01, 0.95


def randomise(model):
    """Random weights in place of those of the start, of which some are zero."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    arrays = {name: torch.tensor(array) for name, array in random_weights(shapes).items()}
    model.load_state_dict(arrays, strict=False)  # buffers stay
    return model.eval()


def cast_input(layer, inputs):
    """Embeddings are float32 whatever the weights are."""
    return (inputs[0].to(layer.weight.dtype),)


class Attributes(dict):
    __getattr__ = dict.get


def score_sde(size, kind, folder):
    """NCSN++ (VE) or DDPM++ (VP) of score_sde_pytorch, with their configurations for CIFAR-10."""
    from models import ncsnpp

    side, width, multipliers, depth, attention = size
    ve = kind == "ncsnpp"
    model = Attributes(
        nf=width, ch_mult=multipliers, num_res_blocks=depth, attn_resolutions=attention,
        dropout=0.1, resamp_with_conv=True, conditional=True, fir=ve, fir_kernel=[1, 3, 3, 1],
        skip_rescale=True, resblock_type="biggan", progressive="none",
        progressive_input="residual" if ve else "none", progressive_combine="sum",
        embedding_type="fourier" if ve else "positional", init_scale=0.0, fourier_scale=16,
        scale_by_sigma=ve, nonlinearity="swish", sigma_min=0.01, sigma_max=50, num_scales=1000,
    )  # fmt: skip
    config = Attributes(
        model=model,
        data=Attributes(image_size=side, num_channels=3, centered=not ve),
        training=Attributes(continuous=True),
    )
    net = randomise(ncsnpp.NCSNpp(config))
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    shadow = [p.detach().clone() for p in net.parameters() if p.requires_grad]
    wrong = {name: value + 1 if value.ndim > 1 else value for name, value in state.items()}
    file = folder / "checkpoint_8.pth"
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": shadow}
    optimiser = torch.optim.Adam(net.parameters())
    optimiser.zero_grad()
    torch.save({"optimizer": optimiser.state_dict(), "model": wrong, "ema": ema, "step": 7}, file)
    options = Options((side, side, 3), multipliers, attention)
    if ve:
        levels = [(-2 * np.log(2 * sigma), sigma) for sigma in SIGMAS]

        # It takes x in [0, 1] and gives the score; ours takes 2 x − 1 and gives the noise.
        def theirs(y, sigma):
            return -sigma * net((y + 1) / 2, torch.full((1,), sigma, dtype=y.dtype))

        return net, file, options, levels, theirs, None

    def log_snr(t):
        log_alpha = -0.5 * (0.1 * t + 0.5 * 19.9 * t**2)
        return 2 * log_alpha - np.log(-np.expm1(2 * log_alpha))

    net.all_modules[0].register_forward_pre_hook(cast_input)
    levels = [(log_snr(t), 999 * t) for t in TIMES]

    def theirs(y, t):
        return net(y, torch.full((1,), t, dtype=y.dtype))

    return net, file, options, levels, theirs, None


def diffusers_unet(size, kind, folder):
    """DDPM's U-Net as `google/ddpm-cifar10-32` configures it, or with most defaults of today."""
    from diffusers import DDPMScheduler, UNet2DModel

    side, width, multipliers, depth, attention = size
    attends = [side >> i in attention for i in range(len(multipliers))]
    old = kind == "ddpm"
    net = UNet2DModel(
        sample_size=side,
        block_out_channels=tuple(width * m for m in multipliers),
        layers_per_block=depth,
        down_block_types=[f"{'Attn' * here}DownBlock2D" for here in attends],
        up_block_types=[f"{'Attn' * here}UpBlock2D" for here in attends[::-1]],
        norm_num_groups=min(32, width // 2),
        norm_eps=1e-6 if old else 1e-5,
        attention_head_dim=None if old else 8,
        downsample_padding=0 if old else 1,
        flip_sin_to_cos=not old,
        freq_shift=1 if old else 0,
    )
    randomise(net).save_pretrained(folder)
    schedule = "linear" if old else "squaredcos_cap_v2"
    scheduler = DDPMScheduler(beta_schedule=schedule, prediction_type="epsilon")
    scheduler.save_pretrained(folder)
    alpha_bar = scheduler.alphas_cumprod.double().numpy()

    def theirs(y, i):
        return net(y, torch.full((1,), i)).sample

    return net, folder, Options(), [(None, i) for i in INDICES], theirs, alpha_bar


def guided(size, kind, folder):
    """The U-Net of guided-diffusion, with its options at their other values for `kind` = blocks."""
    from guided_diffusion import nn
    from guided_diffusion.gaussian_diffusion import get_named_beta_schedule
    from guided_diffusion.unet import UNetModel

    side, width, multipliers, depth, attention = size
    width, blocks = max(width, 32), kind == "blocks"
    net = UNetModel(
        image_size=side,
        in_channels=3,
        model_channels=width,
        out_channels=6 if blocks else 3,
        num_res_blocks=depth,
        attention_resolutions=tuple(side // height for height in attention),
        channel_mult=multipliers,
        num_heads=4,
        num_head_channels=16 if blocks else -1,
        use_scale_shift_norm=blocks,
        resblock_updown=blocks,
        use_new_attention_order=blocks,
    )
    nn.GroupNorm32.forward = torch.nn.GroupNorm.forward  # the same, without a cast to float32
    net.time_embed[0].register_forward_pre_hook(cast_input)
    file, schedule = folder / "ema_0.9999_000010.pt", "cosine" if blocks else "linear"
    torch.save(randomise(net).state_dict(), file)
    alpha_bar = np.cumprod(1 - get_named_beta_schedule(schedule, 1000))
    heads = {"head_channels": 16, "new_attention_order": True} if blocks else {"heads": 4}
    options = Options((side, side, 3), multipliers, attention, schedule, **heads)

    def theirs(y, i):
        return net(y, torch.full((1,), i))[:, :3]

    return net, file, options, [(None, i) for i in INDICES], theirs, alpha_bar


MODELS = {
    "score_sde: NCSN++": (score_sde, "ncsnpp"),
    "score_sde: DDPM++": (score_sde, "ddpmpp"),
    "diffusers: as ddpm-cifar10-32": (diffusers_unet, "ddpm"),
    "diffusers: other options": (diffusers_unet, "other"),
    "guided-diffusion: convolutions": (guided, "convolutions"),
    "guided-diffusion: blocks": (guided, "blocks"),
}


def compare(size, make, kind):
    """Both outputs at every level, in both precisions; ours from the file."""
    found, outputs = {}, []
    with tempfile.TemporaryDirectory() as name:
        net, file, options, levels, theirs, curve = make(size, kind, Path(name))
        fitted = convert(file, options)
    ours, process = fitted.density.score_model.network, fitted.run.objective.process
    if curve is not None:
        found["deviation_alpha_bar"] = float(np.abs(process.steps.alpha_bar() - curve).max())
    y = np.random.default_rng(0).normal(size=(size[0], size[0], 3))
    for dtype in ("float64", "float32"):
        deviations = []
        net = net.to(getattr(torch, dtype))
        if make is guided:
            net.dtype = getattr(torch, dtype)
        with jax.enable_x64(dtype == "float64"):
            forward = eqx.filter_jit(jax.tree.map(partial(jnp.asarray, dtype=dtype), ours))
            for log_snr, level in levels:
                if log_snr is None:
                    log_snr = process.steps.log_snr(jnp.asarray(level, dtype))
                with torch.no_grad():
                    image = torch.tensor(y.transpose(2, 0, 1)[None].astype(dtype))
                    expected = theirs(image, level)[0].permute(1, 2, 0).numpy().ravel()
                # NCSN++'s first layer takes x_t, from x_t / √(1 + σ²).
                raw = np.sqrt(1 + np.exp(-log_snr)) if getattr(fitted.run.network, "raw", 0) else 1
                got = forward(jnp.asarray(y.ravel() / raw, dtype), jnp.asarray(log_snr, dtype))
                deviations.append(float(np.abs(got - expected).max() / expected.std()))
                if dtype == "float64":
                    outputs.append(
                        [log_snr if curve is None else level, expected.round(9).tolist()]
                    )
        found[f"deviation_{dtype}"] = max(deviations)
    shapes = {name: list(p.shape) for name, p in net.named_parameters()}
    record = {"shapes": shapes, "outputs": outputs}
    found["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(ours))
    found["published_parameters"] = sum(p.numel() for p in net.parameters())
    return found, record


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--score-sde", type=Path, required=True)
    parser.add_argument("--guided", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--record", type=Path)
    chosen = parser.parse_args()
    import torch.utils.cpp_extension

    torch.utils.cpp_extension.load = lambda *_, **__: None  # CUDA kernels, with a fallback
    sys.path += [str(chosen.score_sde), str(chosen.guided)]
    from models import up_or_down_sampling as resampling

    native = resampling.upfirdn2d  # its filters are float32, whose values are exact
    resampling.upfirdn2d = lambda x, k, **sizes: native(x, k.to(x.dtype), **sizes)
    found, records = {}, {}
    for name, how in MODELS.items():
        found[name], records[name] = compare(SIZES[chosen.size], *how)
        print(name, found[name], file=sys.stderr, flush=True)
    if chosen.record:
        chosen.record.write_text(json.dumps(records))
    versions = {"torch": torch.__version__, "jax": jax.__version__}
    print(json.dumps({"size": chosen.size, "versions": versions, "models": found}, indent=1))


if __name__ == "__main__":
    main()
