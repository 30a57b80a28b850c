"""Models, losses, data and metrics of *Generative AI: from Equation to Running Code*.

Import the modules one by one, e.g. ``from genai_utils import data``.  Importing the
package alone loads nothing heavy: neither Keras nor Matplotlib nor scikit-learn.
"""

__version__ = "0.1.0"
__all__ = [
    "backends",
    "callbacks",
    "checks",
    "data",
    "feeding",
    "game",
    "judge",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "players",
    "plots",
    "recipes",
    "seeds",
]
