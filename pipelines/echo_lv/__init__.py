"""The left ventricle in apical ultrasound clips, by a network that the site added."""
