"""Models, losses, data and metrics of *Generative AI: from Equation to Running Code*.

Import the modules one by one, e.g. ``from genai_utils import data``.  Importing the
package alone loads nothing heavy: neither Keras nor Matplotlib nor scikit-learn.
"""

__version__ = "0.1.0"
__all__ = [
    "audio",
    "backends",
    "batching",
    "callbacks",
    "checks",
    "cli",
    "data",
    "decoding",
    "diagnosis",
    "drift",
    "export",
    "feeding",
    "game",
    "gan_layers",
    "judge",
    "layers",
    "losses",
    "meshes",
    "metrics",
    "models",
    "music",
    "networks",
    "optimizers",
    "orders",
    "players",
    "plots",
    "png",
    "quiet",
    "ranking",
    "recipes",
    "samplers",
    "scaling",
    "schedules",
    "scoreboard",
    "seeds",
    "serve",
    "two_sample",
    "watch",
    "worlds",
]
