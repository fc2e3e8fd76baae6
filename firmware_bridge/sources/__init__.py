"""One module a URI scheme, each with ``open_source(uri, signal)``; see :mod:`firmware_bridge.source`."""
