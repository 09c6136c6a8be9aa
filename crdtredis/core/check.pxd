# See core/check.pxi.
