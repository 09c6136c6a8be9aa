# Joining another replica's state. See core/join.pxi.
