"""The U-Net and its forward pass: weights, device, predictor, engine, exports."""
