"""Command sets of C-STORE, as other implementations read and write them."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, decode, encode_file_meta

from node.dimse.messages import (
    MalformedCommand,
    StoreRequest,
    command_elements,
    command_set,
    store_request,
    store_response,
)
from node.dimse.receive import part10_header
from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

UID = "1.2.826.0.1.3680043.8.498.1"


def by_pynetdicom(*, data_set: bool = True) -> bytes:
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CTImageStorage
    primitive.AffectedSOPInstanceUID = UID
    primitive.Priority = 2
    primitive.MoveOriginatorApplicationEntityTitle = "MOVER"
    primitive.MoveOriginatorMessageID = 3
    if data_set:
        primitive.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    fragments = next(iter(message.encode_msg(1, 16382))).presentation_data_value_list
    return fragments[0][1][1:]


@pytest.mark.parametrize("data_set", [True, False])
def test_a_request_of_pynetdicom_is_understood(data_set):
    elements = command_elements(by_pynetdicom(data_set=data_set))
    assert store_request(elements) == StoreRequest(7, str(CTImageStorage), UID, data_set)


@pytest.mark.parametrize("comment", ["", "odd", "Data set does not inflate. Check the sender."])
def test_an_answer_is_understood_by_pynetdicom(comment):
    encoded = store_response(StoreRequest(65535, str(CTImageStorage), UID, True), 0xC020, comment)
    answer = decode(BytesIO(encoded), True, True)
    assert answer.CommandGroupLength == len(encoded) - 12
    assert answer.CommandField == 0x8001
    assert answer.MessageIDBeingRespondedTo == 65535
    assert answer.Status == 0xC020
    assert answer.get("ErrorComment", "") == comment
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CTImageStorage, UID)


def test_other_messages_are_no_c_store():
    echo = command_set((0x0100, b"\x30\x00"), (0x0110, b"\x01\x00"), (0x0800, b"\x01\x01"))
    assert store_request(command_elements(echo)) is None


@given(st.binary(max_size=60))
def test_garbage_is_malformed_or_understood_and_nothing_else(garbage):
    for encoded in (garbage, by_pynetdicom() + garbage, by_pynetdicom()[: -len(garbage) or None]):
        try:
            store_request(command_elements(encoded))
        except MalformedCommand:
            continue


def test_a_request_without_a_uid_or_with_an_impossible_one_is_malformed():
    elements = command_elements(by_pynetdicom())
    for value in (b"", b"\0", b"1." + b"2" * 70, "1.2é".encode()):
        with pytest.raises(MalformedCommand):
            store_request({**elements, 0x1000: value})
    with pytest.raises(MalformedCommand):
        store_request({number: value for number, value in elements.items() if number != 0x0110})


def test_the_header_of_a_kept_file_is_what_pydicom_would_write():
    meta = create_file_meta(
        sop_class_uid=CTImageStorage,
        sop_instance_uid=uid.UID(UID),
        transfer_syntax=ExplicitVRLittleEndian,
        implementation_uid=uid.UID(IMPLEMENTATION_CLASS_UID),
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    meta.SourceApplicationEntityTitle = "CT1"
    header = part10_header(str(CTImageStorage), UID, str(ExplicitVRLittleEndian), "CT1")
    assert header == b"\0" * 128 + b"DICM" + encode_file_meta(meta)
