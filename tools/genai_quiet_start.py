"""IPython runs this before the first cell: TensorFlow's C++ library logs no notes.

Installing ``genai_utils`` puts it into ``etc/ipython/startup``.  The library logs while
it is loaded, and a chapter imports Keras first.  Failures are still raised, warnings
still shown.  No name is left behind for the cells.
"""

__import__("genai_utils.quiet", fromlist=["quiet"]).hush_tensorflow()
