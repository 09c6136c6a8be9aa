# See core/conflict.pxi.
