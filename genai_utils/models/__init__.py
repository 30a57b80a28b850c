"""One family of models, one file: the class and the functions that make it."""
