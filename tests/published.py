"""The published NCSN++ and DDPM++ in NumPy and SciPy, from weights named and laid out as Flax does.

Two resolutions of one block each, attention at the coarser, 8 channels, images (h, w, 3).
"""

import math
from collections import Counter

import numpy as np
from scipy.signal import correlate2d, upfirdn
from scipy.special import expit, softmax


def silu(x):
    return x * expit(x)


class Published:
    """The published model's forward pass; images are (h, w, c), layers are numbered as called.

    Where `params` lacks a layer it is drawn: so the first pass makes the tree that later ones read.
    """

    def __init__(self, params, kind):
        self.params, self.kind, self.rng = params, kind, np.random.default_rng(0)

    def __call__(self, x, level):
        self.called, self.inside = Counter(), self.params
        level = self.dense(silu(self.dense(level, 32)), 32)
        fir, pyramid = self.kind == "ncsnpp", x
        skips = [self.conv(x, 8)]
        skips.append(self.block(skips[-1], level, 8))
        h = self.block(skips[-1], level, 8, self.down if fir else self.pooled)
        if fir:
            pyramid = self.strided(pyramid, 8)
            h = pyramid = (pyramid + h) / np.sqrt(2)
        skips.append(h)
        skips.append(self.attention(self.block(h, level, 16)))
        h = self.attention(self.block(skips[-1], level, 16))
        h = self.block(h, level, 16)
        for _ in range(2):
            h = self.block(np.concatenate([h, skips.pop()], -1), level, 16)
        h = self.block(self.attention(h), level, 16, self.up if fir else self.repeated)
        for _ in range(2):
            h = self.block(np.concatenate([h, skips.pop()], -1), level, 8)
        assert not skips
        return self.conv(silu(self.norm(h)), 3)

    def layer(self, kind, **shapes):
        name = f"{kind}_{self.called[kind]}"
        self.called[kind] += 1
        if name not in self.inside:
            self.inside[name] = {
                part: self.rng.normal(size=shape) * 0.5 / max(1, math.prod(shape[:-1])) ** 0.5
                for part, shape in shapes.items()
            }
        return self.inside[name].values()

    def within(self, kind, compute):
        """What is called inside is numbered anew."""
        name = f"{kind}_{self.called[kind]}"
        self.called[kind] += 1
        outside, self.inside = (self.inside, self.called), self.inside.setdefault(name, {})
        self.called = Counter()
        result = compute()
        self.inside, self.called = outside
        return result

    def dense(self, x, n):
        kernel, bias = self.layer("Dense", kernel=(len(x), n), bias=(n,))
        return x @ kernel + bias

    def conv(self, x, n, size=3):
        shape = (size, size, x.shape[-1], n)
        kernel, bias = self.layer("Conv", kernel=shape, bias=(n,))
        return correlated(x, kernel, "same" if size > 1 else "valid") + bias

    def norm(self, x):
        c = x.shape[-1]
        scale, bias = self.layer("GroupNorm", scale=(c,), bias=(c,))
        groups = x.reshape(*x.shape[:2], c // 4, 4)
        groups = groups - groups.mean((0, 1, 3), keepdims=True)
        groups = groups / np.sqrt(np.mean(groups**2, (0, 1, 3), keepdims=True) + 1e-6)
        return groups.reshape(x.shape) * scale + bias

    def block(self, x, level, n, resampled=None):
        def compute():
            h, skip = silu(self.norm(x)), x
            if resampled:
                h, skip = resampled(h), resampled(x)
            h = self.conv(h, n) + self.dense(silu(level), n)
            h = self.conv(silu(self.norm(h)), n)
            if x.shape[-1] != n or resampled:
                skip = self.conv(skip, n, 1)
            return (skip + h) / np.sqrt(2)

        return self.within("ResnetBlockBigGANpp", compute)

    def nin(self, x):
        c = x.shape[-1]
        W, b = self.layer("NIN", W=(c, c), b=(c,))
        return x @ W + b

    def attention(self, x):
        def compute():
            h = self.norm(x)
            q, k, v = (self.nin(h).reshape(-1, x.shape[-1]) for _ in range(3))
            mixed = softmax(q @ k.T / np.sqrt(x.shape[-1]), axis=1) @ v
            return (x + self.nin(mixed.reshape(x.shape))) / np.sqrt(2)

        return self.within("AttnBlockpp", compute)

    def strided(self, x, n):
        """FIR and a convolution with stride 2, whose padding is one for both."""

        def compute():
            shape = (3, 3, x.shape[-1], n)
            weight, bias = self.layer("Conv2d", weight=shape, bias=(n,))
            padded = np.pad(x, ((2, 2), (2, 2), (0, 0)))
            smooth = filtered(padded, 1, 1)[3:-3, 3:-3]
            return correlated(smooth, weight, "valid")[::2, ::2] + bias

        return self.within("Downsample", compute)

    @staticmethod
    def down(x):
        return filtered(np.pad(x, ((1, 1), (1, 1), (0, 0))), 1, 1)[3:-3:2, 3:-3:2]

    @staticmethod
    def up(x):
        return 4 * filtered(x, 2, 1)[1 : 1 + 2 * x.shape[0], 1 : 1 + 2 * x.shape[1]]

    @staticmethod
    def pooled(x):
        return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean((1, 3))

    @staticmethod
    def repeated(x):
        return x.repeat(2, 0).repeat(2, 1)


def correlated(x, kernel, mode):
    pairs = [
        [correlate2d(x[..., i], w[..., i], mode) for i in range(x.shape[-1])]
        for w in np.moveaxis(kernel, -1, 0)
    ]
    return np.stack([np.sum(some, 0) for some in pairs], -1)


def filtered(x, up, down):
    taps = np.array([1, 3, 3, 1]) / 8
    return upfirdn(taps, upfirdn(taps, x, up, down, axis=0), up, down, axis=1)


def weights(kind):
    """A random tree, and the model with it."""
    params, features = {}, {"ncsnpp": 16, "ddpmpp": 8}[kind]
    model = Published(params, kind)
    model(np.zeros((8, 12, 3)), np.zeros(features))
    if kind == "ncsnpp":
        params["GaussianFourierProjection_0"] = {"W": 2 * model.rng.normal(size=8)}
    return params, model


def fourier(params, sigma):
    """What NCSN++ is told of σ, for pixels in [0, 1]."""
    phase = 2 * np.pi * np.log(sigma) * params["GaussianFourierProjection_0"]["W"]
    return np.concatenate([np.sin(phase), np.cos(phase)])
