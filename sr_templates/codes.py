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
DERIVATION: Final = Code("121401", "DCM", "Derivation")
TRACKING_IDENTIFIER: Final = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
REFERENCED_SEGMENT: Final = Code("121191", "DCM", "Referenced Segment")
SOURCE_SERIES: Final = Code("121232", "DCM", "Source series for segmentation")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")
ACQUISITION_EQUIPMENT: Final = Code("109101", "DCM", "Acquisition Equipment")
SEGMENTATION: Final = Code("113076", "DCM", "Segmentation")
COMMENT: Final = Code("121106", "DCM", "Comment")
CONCLUSION: Final = Code("121077", "DCM", "Conclusion")
PROCESSING_SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")
SUCCEEDED_WITHOUT_FINDINGS: Final = Code(
    "111241", "DCM", "All algorithms succeeded; without findings"
)
NOTHING_SUCCEEDED: Final = Code("111245", "DCM", "No algorithms succeeded; without findings")

# Simplified echo report, TID 5300
ADULT_ECHO_REPORT: Final = Code("125200", "DCM", "Adult Echocardiography Procedure Report")
PRE_COORDINATED: Final = Code("125301", "DCM", "Pre-coordinated Measurements")
POST_COORDINATED: Final = Code("125302", "DCM", "Post-coordinated Measurements")
ADHOC: Final = Code("125303", "DCM", "Adhoc Measurements")
OBSERVATION_TYPE: Final = Code("125305", "DCM", "Finding Observation Type")
MEASUREMENT_TYPE: Final = Code("125306", "DCM", "Measurement Type")
MEASURED_PROPERTY: Final = Code("125307", "DCM", "Measured Property")
SHORT_LABEL: Final = Code("125309", "DCM", "Short Label")
CARDIAC_CYCLE_POINT: Final = Code("272518008", "SCT", "Cardiac Cycle Point")
FINDINGS: Final = Code("59776-5", "LN", "Findings")

# Chest CAD, TID 4100
CHEST_CAD_REPORT: Final = Code("112000", "DCM", "Chest CAD Report")
SUMMARY_OF_DETECTIONS: Final = Code("111064", "DCM", "Summary of Detections")
SUMMARY_OF_ANALYSES: Final = Code("111065", "DCM", "Summary of Analyses")
SUCCESSFUL_DETECTIONS: Final = Code("111063", "DCM", "Successful Detections")
DETECTION_PERFORMED: Final = Code("111022", "DCM", "Detection Performed")
SERIES_INSTANCE_UID: Final = Code("112002", "DCM", "Series Instance UID")
SUCCEEDED: Final = Code("111222", "DCM", "Succeeded")
NOT_ATTEMPTED: Final = Code("111225", "DCM", "Not Attempted")
SUCCEEDED_WITH_FINDINGS: Final = Code("111242", "DCM", "All algorithms succeeded; with findings")
SINGLE_IMAGE_FINDING: Final = Code("111059", "DCM", "Single Image Finding")
SINGLE_IMAGE_FINDING_MODIFIER: Final = Code("112024", "DCM", "Single Image Finding Modifier")
SELECTED_REGION: Final = Code("111099", "DCM", "Selected region")
SELECTED_REGION_DESCRIPTION: Final = Code("111058", "DCM", "Selected Region Description")
RENDERING_INTENT: Final = Code("111056", "DCM", "Rendering Intent")
PRESENTATION_REQUIRED: Final = Code(
    "111150", "DCM", "Presentation Required: Rendering device is expected to present"
)
PRESENTATION_OPTIONAL: Final = Code(
    "111151", "DCM", "Presentation Optional: Rendering device may present"
)
NOT_FOR_PRESENTATION: Final = Code(
    "111152", "DCM", "Not for Presentation: Rendering device expected not to present"
)
CENTER: Final = Code("111010", "DCM", "Center")
OUTLINE: Final = Code("111041", "DCM", "Outline")
LOCATION_IN_CHEST: Final = Code("112013", "DCM", "Location in Chest")

# Key objects, TID 2010
OF_INTEREST: Final = Code("113000", "DCM", "Of Interest")
REJECTED_FOR_QUALITY: Final = Code("113001", "DCM", "Rejected for Quality Reasons")
REJECTED_FOR_SAFETY: Final = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
INCORRECT_WORKLIST_ENTRY: Final = Code("113038", "DCM", "Incorrect Modality Worklist Entry")
RETENTION_EXPIRED: Final = Code("113039", "DCM", "Data Retention Policy Expired")
TITLE_MODIFIER: Final = Code("113011", "DCM", "Document Title Modifier")
INAPPROPRIATE_PROCESSING: Final = Code("111219", "DCM", "Inappropriate image processing")
KEY_OBJECT_DESCRIPTION: Final = Code("113012", "DCM", "Key Object Description")

# Who made it
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
ALGORITHM_PARAMETERS: Final = Code("111002", "DCM", "Algorithm Parameters")
PROCESSING_ALGORITHM: Final = Code("Newcode1", "99IHE", "Processing Algorithm")
"""Purpose of an algorithm among contributing equipment (IHE AIR 6.5.3.1)."""

PROCEDURES: Final = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
"""Modality -> the procedure that was reported on (CID 100).

It has (43468-8, LN) for radiographs too, but not yet in the edition that the validator IHE goes by
knows; they are told in general."""
IMAGING_PROCEDURE: Final = Code("363679005", "SCT", "Imaging procedure")
