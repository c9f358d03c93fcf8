"""The concepts that this pipeline reports beside those of all pipelines."""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

AIRWAYS: Final = Code("110726009", "SCT", "Trachea and bronchus")
"""CID 4."""

TOTAL_VOLUME: Final = Code("TOTALLUNGVOLUME", "99RADNODE", "Volume of both lungs")
LAA_950: Final = Code("LAA950", "99RADNODE", "Share of lung below -950 HU (LAA-950)")
"""Gevenois et al. 1996, Am J Respir Crit Care Med 154:187-192."""
PERC_15: Final = Code("PERC15", "99RADNODE", "15th percentile of lung density (Perc15)")
"""Dirksen et al. 1999, Am J Respir Crit Care Med 160:1468-1472."""
TISSUE_MASS: Final = Code("LUNGMASS", "99RADNODE", "Mass of lung tissue and blood")
"""Coxson et al. 1999, Am J Respir Crit Care Med 159:851-856."""
TRACHEA_AIR: Final = Code("TRACHEAAIR", "99RADNODE", "Density of the air in the trachea")
