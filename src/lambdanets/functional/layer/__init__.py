"""The dense form of the layer: any context, any embeddings, masks; causal in linear memory; multi-head."""
