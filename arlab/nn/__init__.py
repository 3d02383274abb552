"""The transformer, piece by piece: attention, masks, positions, blocks, cache, decoder, pretrained weights."""
