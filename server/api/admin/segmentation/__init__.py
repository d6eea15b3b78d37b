"""SegmentationService."""
