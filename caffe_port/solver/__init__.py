"""How Caffe learns: learning rates, gradients made ready, and one update rule per solver type."""
