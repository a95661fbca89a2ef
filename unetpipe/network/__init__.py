"""The U-Net and its forward pass: weights, predictor, engine, transfer."""
