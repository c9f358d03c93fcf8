"""What the report on an ECG says, and of which samples of which lead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contract import Channel, Code, MultiplexGroup, Presence, Waveform, WaveformSpan
from sr_templates import codes
from sr_templates.tree import children_named, code_of, is_named, name_of, walk
from tests.sr_templates import made


def findings(sr):
    (section,) = children_named(sr, codes.QUALITATIVE_ANALYSIS)
    return list(section.ContentSequence)


def ranges(sr):
    return [
        (
            list(item.ReferencedSamplePositions),
            list(item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedWaveformChannels),
        )
        for item in walk(sr)
        if item.ValueType == "TCOORD"
    ]


def sr_with(spans, source=None):
    source = source or made.ecg()
    finding = replace(made.rhythm().findings[0], spans=spans)
    result = replace(made.rhythm(), findings=(finding,))
    return made.encode(source, result, made.work("ecg_report"))[0].dataset


def test_the_root_is_an_ecg_report_which_viewers_show_as_text(report):
    sr = report("ecg-present")
    assert name_of(sr) == codes.ECG_REPORT
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "3700"
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"


def test_a_rhythm_that_is_there_is_an_ecg_finding(report):
    (finding,) = findings(report("ecg-present"))
    assert is_named(finding, codes.ECG_FINDING)
    assert code_of(finding.ConceptCodeSequence[0]) == made.ATRIAL_FIBRILLATION


@pytest.mark.parametrize(
    ("presence", "answer"),
    [
        (Presence.ABSENT, codes.ABSENT),
        (Presence.INDETERMINATE, codes.PRESENCE_UNDETERMINED),
    ],
)
def test_a_rhythm_that_is_not_there_is_a_question_answered(report, presence, answer):
    sr = report(f"ecg-{presence.value}")
    (finding,) = findings(sr)
    assert name_of(finding) == made.ATRIAL_FIBRILLATION
    assert code_of(finding.ConceptCodeSequence[0]) == answer
    assert not any(is_named(item, codes.ECG_FINDING) for item in walk(sr))


def test_no_finding_is_said_in_codes(report):
    said = [code_of(item.ConceptCodeSequence[0]) for item in findings(report("ecg-nothing"))]
    assert said == [codes.SUCCEEDED_WITHOUT_FINDINGS, codes.ABSENT]


def test_episodes_refer_to_samples_of_their_group_and_channel(report):
    assert ranges(report("ecg-present")) == [([1, 2000], [1, 2]), ([5001, 7000], [1, 2])]


def test_one_stretch_of_several_channels_is_one_range():
    spans = tuple(WaveformSpan(1, channel, 1.0, 2.0) for channel in (3, 1, 2))
    assert ranges(sr_with(spans)) == [([1001, 2000], [1, 1, 1, 2, 1, 3])]


def test_measurements_of_one_lead_are_filed_under_it(report):
    (section,) = children_named(report("ecg-present"), codes.QUANTITATIVE_ANALYSIS)
    (lead,) = children_named(section, codes.ECG_LEAD_MEASUREMENTS)
    (identity,) = children_named(lead, codes.LEAD_ID)
    assert code_of(identity.ConceptCodeSequence[0]) == Code("2:2", "MDC", "Lead II")


def test_measurements_of_no_one_lead_stand_by_themselves():
    spans = (WaveformSpan(1, 1, 0.0, 1.0), WaveformSpan(1, 2, 0.0, 1.0))
    (section,) = children_named(sr_with(spans), codes.QUANTITATIVE_ANALYSIS)
    assert [item.ValueType for item in section.ContentSequence] == ["NUM", "NUM"]


def test_a_lead_in_the_makers_own_words_is_not_repeated():
    source = made.ecg()
    odd = Channel(Code("X1", "99MAKER", "Chest strap"), "", "mV")
    group = MultiplexGroup(1, 500.0, (odd,), np.zeros((1, 5000), np.float32))
    sr = sr_with((WaveformSpan(1, 1, 0.0, 1.0),), replace(source, study=Waveform((group,))))
    assert not any(is_named(item, codes.LEAD_ID) for item in walk(sr))


@settings(max_examples=30, deadline=None)
@given(
    start=st.floats(0.0, 10.0, allow_nan=False),
    length=st.floats(0.0, 3.0, allow_nan=False),
    hz=st.sampled_from([125.0, 257.3, 500.0, 1000.0]),
)
def test_sample_positions_stay_inside_the_recording(start, length, hz):
    samples = np.zeros((1, int(10 * hz)), np.float32)
    lead = Channel(Code("2:1", "MDC", "Lead I"), "", "mV")
    source = replace(made.ecg(), study=Waveform((MultiplexGroup(1, hz, (lead,), samples),)))
    (((first, last), _),) = ranges(sr_with((WaveformSpan(1, 1, start, start + length),), source))
    assert 1 <= first <= last <= samples.shape[1]
    assert abs((first - 1) / hz - min(start, 10.0)) <= 2 / hz
