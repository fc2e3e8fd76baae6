"""ExecuTorch without torch: a small C++ shim over the wheel's own runtime libraries, built once, called by ctypes.

``shim.cpp`` is built by :mod:`edge.engines.executorch.build` into a folder of its own, beside copies of the four
libraries it needs, so that at run time neither torch nor the executorch package is needed, and so that the folder may
be carried to another machine of the same kind.
"""
