# The test door. See core/probe.pxi.
