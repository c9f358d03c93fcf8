"""How large are the lungs on this chest CT, and how dense?"""
