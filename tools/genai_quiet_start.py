"""IPython runs this before the first cell: TensorFlow's C++ library logs nothing.

Installing ``genai_utils`` puts it into ``etc/ipython/startup``.  The library reads the
variable once, when it is loaded, and a chapter imports Keras first.  Failures are still
raised, and Python's warnings still shown.  No name is left behind for the cells.
"""

__import__("os").environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
