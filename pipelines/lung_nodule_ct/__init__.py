"""Are there nodules in the lungs on this chest CT, how large, and what do guidelines say?"""
