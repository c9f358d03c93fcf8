"""Which volume does the brain have on this T1-weighted head MR?"""
