# The digest of the whole state. See core/digest.pxi.
