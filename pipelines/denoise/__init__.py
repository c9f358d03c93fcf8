"""What CT and MR denoising share: noise, networks, how they are trained."""
