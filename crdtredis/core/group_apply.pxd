# Applying effects on consumer groups. See core/group_apply.pxi.
