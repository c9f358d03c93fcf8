"""Is there blood inside the skull on this head CT, of which kind, how much and on which side?"""
