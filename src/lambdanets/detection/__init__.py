"""Detection and instance segmentation: Mask R-CNN on the backbones of this library, its data and scores."""
