"""The models: one file each, plain scikit-learn and Keras."""
