# Joining another replica's state.
