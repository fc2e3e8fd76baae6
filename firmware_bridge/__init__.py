"""Sensors in, :class:`~firmware_bridge.block.SampleBlock` out: transports, decoders and the virtual sensor."""
