# What an effect does to the state. See core/apply.pxi.
