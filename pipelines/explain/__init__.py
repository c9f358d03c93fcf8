"""What a pipeline looked at: by hiding parts of its input, or by gradients where it has them."""
