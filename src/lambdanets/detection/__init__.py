"""Detection and instance segmentation: Mask R-CNN on the backbones of this library, and its data and scores."""
