"""Concepts that the templates themselves are made of (PS3.16)."""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

# Roots and sections
IMAGING_MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
DIAGNOSTIC_IMAGING_REPORT: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")
ECG_REPORT: Final = Code("11524-0", "LN", "ECG Report")
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")
CONCLUSIONS: Final = Code("55110-1", "LN", "Conclusions")
CURRENT_PROCEDURE: Final = Code("55111-9", "LN", "Current Procedure Descriptions")
QUANTITATIVE_ANALYSIS: Final = Code("122144", "DCM", "Quantitative Analysis")
QUALITATIVE_ANALYSIS: Final = Code("122145", "DCM", "Qualitative Analysis")
ECG_LEAD_MEASUREMENTS: Final = Code("122159", "DCM", "ECG Lead Measurements")
SUMMARY: Final = Code("55112-7", "LN", "Summary")

# Context
ENGLISH: Final = Code("en", "RFC5646", "English")
DEVICE_OBSERVER_UID: Final = Code("121012", "DCM", "Device Observer UID")
MODALITY: Final = Code("121139", "DCM", "Modality")
FRAME_OF_REFERENCE_UID: Final = Code("112227", "DCM", "Frame of Reference UID")
PIXEL_DATA_ROWS: Final = Code("110910", "DCM", "Pixel Data Rows")
PIXEL_DATA_COLUMNS: Final = Code("110911", "DCM", "Pixel Data Columns")
PROCEDURE_DATETIME: Final = Code("122146", "DCM", "Procedure DateTime")
LEAD_ID: Final = Code("122148", "DCM", "Lead ID")
SOURCE: Final = Code("260753009", "SCT", "Source")
SOURCE_OF_MEASUREMENT: Final = Code("121112", "DCM", "Source of Measurement")

# Statements
FINDING: Final = Code("121071", "DCM", "Finding")
ANY_FINDING: Final = Code("404684003", "SCT", "Finding")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
ECG_FINDING: Final = Code("271921002", "SCT", "ECG Finding")
PRESENT: Final = Code("121053", "DCM", "Present")
ABSENT: Final = Code("121054", "DCM", "Absent")
PRESENCE_UNDETERMINED: Final = Code("121059", "DCM", "Presence Undetermined")
CERTAINTY_OF_FINDING: Final = Code("111012", "DCM", "Certainty of Finding")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
LOWER_UNCERTAINTY: Final = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
UPPER_UNCERTAINTY: Final = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
MEASUREMENT_METHOD: Final = Code("370129005", "SCT", "Measurement Method")
TRACKING_IDENTIFIER: Final = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
REFERENCED_SEGMENT: Final = Code("121191", "DCM", "Referenced Segment")
SOURCE_SERIES: Final = Code("121232", "DCM", "Source series for segmentation")
COMMENT: Final = Code("121106", "DCM", "Comment")
CONCLUSION: Final = Code("121077", "DCM", "Conclusion")
PROCESSING_SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")
SUCCEEDED_WITHOUT_FINDINGS: Final = Code(
    "111241", "DCM", "All algorithms succeeded; without findings"
)
NOTHING_SUCCEEDED: Final = Code("111245", "DCM", "No algorithms succeeded; without findings")

# Who made it
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_ALGORITHM: Final = Code("Newcode1", "99IHE", "Processing Algorithm")
"""Purpose of an algorithm among contributing equipment (IHE AIR 6.5.3.1)."""

PROCEDURES: Final = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
}
"""Modality -> the procedure that was reported on (CID 100)."""
IMAGING_PROCEDURE: Final = Code("363679005", "SCT", "Imaging procedure")
