"""Is there atrial fibrillation in this electrocardiogram?"""
