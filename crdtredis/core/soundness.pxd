# See core/soundness.pxi.
