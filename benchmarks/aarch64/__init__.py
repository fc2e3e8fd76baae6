"""``pulsecode bench aarch64``: the device wheel set in an arm64 Debian under emulation, beside this machine."""
