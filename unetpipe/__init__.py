"""The U-Net of Ronneberger, Fischer and Brox (2015), as stages of a pipeline."""

__version__ = "0.1.0"
