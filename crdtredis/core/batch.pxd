# Batches as bytes. See core/batch.pxi.
