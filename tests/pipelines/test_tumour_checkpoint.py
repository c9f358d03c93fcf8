"""TensorFlow's checkpoints, read without TensorFlow: whole ones, and ones that are not."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.brain_mr_tumour.cascade import PLANES, file_names
from pipelines.brain_mr_tumour.checkpoint import Checkpoint, CorruptCheckpoint, crc32c
from pipelines.brain_mr_tumour.network import expected_shapes, read_weights
from tests.peers.weights import WEIGHTS

TENSORS = {
    "net/block/conv/w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "net/block/conv_2/w": np.array([1.5, -2.0], dtype=np.float32),
    "net/scalar": np.array(7.0, dtype=np.float32),
}


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def masked(content):
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries):
    """Entries with shared beginnings, one restart point, type and check sum behind them."""
    out, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        before = key
    out += struct.pack("<II", 0, 1) + b"\x00"
    return out + struct.pack("<I", masked(out))


def bundle(tensors=TENSORS, *, header=b"\x08\x01\x1a\x02\x08\x01", dtype=1, wrong_size=0):
    """Write what TensorFlow writes; return index and data."""
    data, entries = b"", [(b"", header)]
    for name, values in sorted(tensors.items()):
        dimensions = b"".join(
            b"\x12" + varint(len(size)) + size
            for size in (b"\x08" + varint(count) for count in values.shape)
        )
        content = values.astype("<f4").tobytes()
        value = b"\x08" + varint(dtype) + b"\x12" + varint(len(dimensions)) + dimensions
        value += b"\x20" + varint(len(data)) + b"\x28" + varint(len(content) + wrong_size)
        value += b"\x35" + struct.pack("<I", masked(content))
        entries.append((name.encode(), value))
        data += content
    return table(entries), data


def table(entries):
    content = block(entries)
    handles = [(0, len(content) - 5)]
    content += block([])
    handles.append((handles[0][1] + 5, len(content) - handles[0][1] - 10))
    place = len(content)
    index = block([(b"\xff", varint(handles[0][0]) + varint(handles[0][1]))])
    content += index
    footer = b"".join(map(varint, (*handles[1], place, len(index) - 5)))
    return content + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def resealed(index, place, byte):
    """Return an index with another byte in its first block, and the check sum to match."""
    end = index.index(struct.pack("<II", 0, 1) + b"\x00") + 9
    changed = index[:place] + bytes([byte]) + index[place + 1 : end]
    return changed + struct.pack("<I", masked(changed)) + index[end + 4 :]


def test_the_check_sum_is_castagnolis():
    """RFC 3720 appendix B.4: 32 bytes of zero; and the usual check value of the polynomial."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283


def test_what_was_written_is_read():
    read = Checkpoint(*bundle())
    assert set(read.names) == set(TENSORS)
    for name, values in TENSORS.items():
        assert read.tensor(name).shape == values.shape
        assert np.array_equal(read.tensor(name), values)


def test_integers_are_left_out():
    assert Checkpoint(*bundle(dtype=3)).names == ()


@pytest.mark.parametrize(
    ("header", "wrong_size", "words"),
    [
        (b"\x08\x02", 0, "several data files"),
        (b"\x08\x01\x10\x01", 0, "big-endian"),
        (b"\x08\x01", 4, "another size"),
    ],
)
def test_a_bundle_of_another_kind_is_refused(header, wrong_size, words):
    with pytest.raises(CorruptCheckpoint, match=words):
        Checkpoint(*bundle(header=header, wrong_size=wrong_size))


def test_a_changed_weight_is_refused():
    index, data = bundle()
    changed = data[:5] + bytes([data[5] ^ 1]) + data[6:]
    with pytest.raises(CorruptCheckpoint, match="check sum of the tensor"):
        Checkpoint(index, changed).tensor("net/block/conv/w")


def test_a_weight_that_is_no_number_is_refused():
    read = Checkpoint(*bundle({"net/w": np.array([1.0, np.nan], np.float32)}))
    with pytest.raises(CorruptCheckpoint, match="no numbers"):
        read.tensor("net/w")


def test_data_cut_short_are_refused():
    index, data = bundle()
    with pytest.raises(CorruptCheckpoint, match="ends behind the data"):
        Checkpoint(index, data[:-1])


def test_a_compressed_index_is_refused():
    index, data = bundle()
    end = index.index(struct.pack("<II", 0, 1) + b"\x00") + 8
    with pytest.raises(CorruptCheckpoint, match="compressed"):
        Checkpoint(index[:end] + b"\x01" + index[end + 1 :], data)


def test_any_changed_bit_of_the_index_is_noticed():
    index, data = bundle()
    for place in range(len(index) - 48):
        changed = index[:place] + bytes([index[place] ^ 0x10]) + index[place + 1 :]
        if changed[place] != index[place] and place not in padding(index):
            with pytest.raises(CorruptCheckpoint):
                Checkpoint(changed, data)


def padding(index):
    """Return the places of the table's statistics, which nobody reads."""
    first = index.index(struct.pack("<II", 0, 1) + b"\x00") + 13
    return range(first, first + 13)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 120), byte=st.integers(0, 255))
def test_a_forged_index_whose_check_sum_is_right_gives_tensors_or_a_refusal(place, byte):
    index, data = bundle()
    try:
        read = Checkpoint(resealed(index, place, byte), data)
        for name in read.names:
            read.tensor(name)
    except CorruptCheckpoint:
        pass


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_tensors_or_a_refusal(content):
    footer = bytes.fromhex("57fb808b247547db")
    for index in (content, content.ljust(48, b"\0")[:-8] + footer):
        with pytest.raises(CorruptCheckpoint):
            Checkpoint(index, content)


def test_a_table_that_lists_a_block_again_and_again_is_refused():
    """A small file must not expand to a large one."""
    content = block([(b"", b"\x08\x01")])
    handle = varint(0) + varint(len(content) - 5)
    index = block([(bytes([number]), handle) for number in range(1, 200)])
    footer = varint(0) + varint(0) + varint(len(content)) + varint(len(index) - 5)
    whole = content + index + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    with pytest.raises(CorruptCheckpoint, match="again"):
        Checkpoint(whole, b"")


@pytest.mark.parametrize("plane", PLANES)
def test_the_published_weights_are_those_of_the_network(plane):
    if not WEIGHTS.is_dir():
        pytest.skip("the public weights are not on this machine")
    for step in ("wt", "tc", "en"):
        index, data = (
            (WEIGHTS / "brats17_wang" / name).read_bytes() for name in file_names(step, plane)
        )
        weights = read_weights(Checkpoint(index, data))
        assert len(weights) == len(expected_shapes(halves_twice=step != "en"))


def test_a_checkpoint_of_another_network_is_refused():
    with pytest.raises(CorruptCheckpoint, match="another network"):
        read_weights(Checkpoint(*bundle()))
