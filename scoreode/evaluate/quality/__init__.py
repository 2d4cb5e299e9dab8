"""The quality of generated images, in the features of a pretrained network."""

from scoreode.evaluate.quality.features import FEATURES, Features, of_images
from scoreode.evaluate.quality.moments import Moments, class_score, frechet_distance

__all__ = ["FEATURES", "Features", "Moments", "class_score", "frechet_distance", "of_images"]
