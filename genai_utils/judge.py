"""Small classifiers that look at samples: features for distances, labels for counts.

They run in NumPy, from weights that are shipped with the package.  Distances in their
features are **not** Inception FID.

A judge has only its ten classes: it gives noise a label too.  :meth:`Judge.sure` says
which labels are worth counting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genai_utils.checks import check_array, check_positive
from genai_utils.stored import load_arrays

__all__ = ["SURE_SHARE", "Judge", "confidence_threshold", "load_judge"]

SURE_SHARE = 0.95  # share of real test images that a judge's threshold lets pass


@dataclass(frozen=True)
class Judge:
    """A convolutional classifier: two strided layers, one dense, one of logits.

    Args:
        weights: Kernels and biases by name (``conv1``, ``conv2``, ``dense``,
            ``logits``, each with ``_w`` and ``_b``).
        image_shape: ``(H, W, 1)`` of the images it takes.
        accuracy: Share of test images it gets right.
        threshold: Confidence that ``SURE_SHARE`` of the real test images reach, in
            (0, 1]; ``None`` if it was not measured.
    """

    weights: dict[str, np.ndarray]
    image_shape: tuple[int, int, int]
    accuracy: float
    threshold: float | None = None

    def features(self, x: np.ndarray) -> np.ndarray:
        """Return the 32 values before the logits, shape ``(n, 32)``.

        They are scaled to a mean square of 1 over the training images.

        Args:
            x: Images in [-1, 1], shape ``(n, *image_shape)``.
        """
        x = check_array(x, "x", shape=(None, *self.image_shape), low=-1.0, high=1.0)
        parts = [self._features(x[i : i + 500]) for i in range(0, len(x), 500)]
        return np.concatenate(parts)

    def _features(self, x: np.ndarray) -> np.ndarray:
        h = x.astype("float32")
        for name in ("conv1", "conv2"):
            w, b = self.weights[name + "_w"], self.weights[name + "_b"]
            h = np.maximum(_conv_half(h, w) + b, 0.0)
        h = h.reshape(len(h), -1) @ self.weights["dense_w"] + self.weights["dense_b"]
        return np.maximum(h, 0.0)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return one logit a class, shape ``(n, 10)``.

        Args:
            x: Images in [-1, 1], shape ``(n, *image_shape)``.
        """
        return self.features(x) @ self.weights["logits_w"] + self.weights["logits_b"]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the most likely class of each image, shape ``(n,)``.

        Args:
            x: Images in [-1, 1], shape ``(n, *image_shape)``.
        """
        return self.logits(x).argmax(axis=1)

    def confidence(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of each image's most likely class, shape ``(n,)``.

        It is the largest softmax output, from 0.1 (no idea) to 1.

        Args:
            x: Images in [-1, 1], shape ``(n, *image_shape)``.

        Reference:
            Hendrycks and Gimpel (2017), A baseline for detecting misclassified and
            out-of-distribution examples in neural networks.
        """
        logits = self.logits(x).astype("float64")
        gaps = logits - logits.max(axis=1, keepdims=True)  # 0 for the likeliest class
        return 1 / np.exp(gaps).sum(axis=1)

    def sure(self, x: np.ndarray) -> np.ndarray:
        """Tell which images the judge is sure of, shape ``(n,)``, True or False.

        It is sure of an image whose confidence reaches ``threshold``, as 95 % of real
        test images do.  Being sure is not being right: the judge for MNIST is sure of
        most images of uniform noise, and sees the same digit in nearly all of them.
        So count the classes among the sure samples, and compare their shares with the
        real ones, as in :func:`genai_utils.metrics.class_coverage` and
        :func:`genai_utils.metrics.total_variation`.

        Args:
            x: Images in [-1, 1], shape ``(n, *image_shape)``.

        Raises:
            ValueError: If the judge has no threshold.
        """
        if self.threshold is None:
            raise ValueError(
                "`threshold` must be a confidence in (0, 1]. Received: None. Measure "
                "it on real test images with `confidence_threshold(judge.confidence"
                "(x_test))` and pass it to `Judge`."
            )
        return self.confidence(x) >= self.threshold


def _conv_half(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """4 x 4 convolution, stride 2, one pixel of zeros around: halves H and W."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))
    windows = windows[:, ::2, ::2]  # (n, H/2, W/2, C, 4, 4)
    return np.tensordot(windows, w, axes=([4, 5, 3], [0, 1, 2]))


def confidence_threshold(confidence: np.ndarray, share: float = SURE_SHARE) -> float:
    """Return the confidence that a share of real images reach.

    Args:
        confidence: Confidences of real test images ``(n,)``, in [0, 1].
        share: The share of them that has to pass, in (0, 1].

    Returns:
        The threshold, rounded down to four decimals.

    Raises:
        ValueError: If a confidence or the share leaves its range.
    """
    confidence = check_array(confidence, "confidence", ndim=1, low=0.0, high=1.0)
    if check_positive(share, "share") > 1:
        raise ValueError(
            f"`share` must lie in (0, 1]. Received: {share}. Pass 0.95 for 95 %."
        )
    passing = int(np.ceil(share * len(confidence) - 1e-9))  # so many, at the least
    return float(np.floor(np.sort(confidence)[-passing] * 1e4) / 1e4)


def load_judge(name: str = "digits") -> Judge:
    """Load a judge that comes with the package.

    Args:
        name: ``"digits"``, ``"mnist"`` or ``"fashion_mnist"``.

    Returns:
        The judge.

    Raises:
        ValueError: If there is no such judge, or its file is damaged.
    """
    weights, facts = load_arrays("judges.json", name)
    shape, threshold = tuple(facts["image_shape"]), facts.get("threshold")
    return Judge(weights, shape, facts["accuracy"], threshold)
