"""Header compression against hpack, which has the same job and other code."""

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from server.transport.http2 import huffman
from server.transport.http2.header_decoder import HeaderDecoder, HeaderError
from server.transport.http2.response_encoder import ResponseEncoder, literals
from server.transport.rpc.answers import new_encoder

_NAMES = st.sampled_from([b":path", b":method", b"content-type", b"grpc-timeout", b"traceparent", b"x-a", b"x" * 70])
_VALUES = st.one_of(st.sampled_from([b"POST", b"/", b"", b"application/grpc", b"5S"]), st.binary(max_size=80))
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=8)


class _Choosing(Encoder):
    """Encodes each field as the test wants: indexed in the table, or a literal that leaves it alone."""

    def encode_field(self, name: bytes, value: bytes, *, remember: bool, huffman_coded: bool) -> bytes:
        return self.add((name, value), sensitive=not remember, huffman=huffman_coded)


@given(st.lists(st.tuples(_FIELDS, st.booleans(), st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=30))
@settings(max_examples=300, deadline=None)
def test_blocks_are_read_as_hpack_reads_them(blocks: list[tuple[list[tuple[bytes, bytes]], bool, bool, int | None]]):
    encoder, ours, theirs = _Choosing(), HeaderDecoder(4096), Decoder()
    for fields, remember, huffman_coded, table_size in blocks:
        data = b""
        if table_size is not None:
            encoder.header_table_size = table_size
            data = encoder._encode_table_size_change()
        data += b"".join(encoder.encode_field(*f, remember=remember, huffman_coded=huffman_coded) for f in fields)
        expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(data, raw=True)]
        assert ours.decode(data).fields() == expected == fields
        assert list(ours.table.entries) == list(theirs.header_table.dynamic_entries)


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=1000, deadline=None)
def test_any_bytes_are_refused_or_read_as_hpack_does(blocks: list[bytes]):
    ours, theirs = HeaderDecoder(4096), Decoder()
    for data in blocks:
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(data, raw=True)]
        except (HPACKError, IndexError):
            with pytest.raises(HeaderError):
                ours.decode(data)
            return
        assert ours.decode(data).fields() == expected


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_huffman_round_trip(text: bytes):
    assert huffman.decode(Encoder().huffman_coder.encode(text)) == text


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\xff\xff\xff\xfc\xff", b"\x18"])
def test_huffman_refuses_the_end_symbol_and_wrong_padding(data: bytes):
    with pytest.raises(huffman.HuffmanError):
        huffman.decode(data)


def test_repeated_fields_stand_in_the_shape_and_varying_ones_by_name():
    encoder, decoder = Encoder(), HeaderDecoder(4096)
    for k in range(3):
        block = decoder.decode(encoder.encode([(":method", "POST"), ("x-fixed", "a"), ("traceparent", f"{k}")]))
    assert block.shape == ((b":method", b"POST"), (b"x-fixed", b"a"), b"traceparent")
    assert block.values == [b"2"]
    assert block.names() == [b"traceparent"]


def test_endless_integers_are_refused():
    with pytest.raises(HeaderError, match="too long"):
        HeaderDecoder(4096).decode(b"\xff" + b"\x80" * 100 + b"\x01")


def test_a_table_larger_than_agreed_is_refused():
    with pytest.raises(HeaderError, match="limit"):
        HeaderDecoder(4096).decode(b"\x3f\xe2\x1f")


@given(st.lists(st.sampled_from(["head", "tail", "error", 0, 100, 169, 4096, 65_536]), max_size=40))
@settings(max_examples=300, deadline=None)
def test_answers_are_read_by_hpack_whatever_the_peer_does_to_its_table(steps: list[str | int]):
    encoder: ResponseEncoder = new_encoder()
    decoder = Decoder()
    head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-accept-encoding", "identity,gzip")]
    for step in steps:
        if isinstance(step, int):
            encoder.resize(step)
            decoder.max_allowed_table_size = step
        elif step == "head":
            assert decoder.decode(encoder.head([(b"x-a", b"b")])) == [*head, ("x-a", "b")]
        elif step == "tail":
            assert decoder.decode(encoder.tail()) == [("grpc-status", "0")]
        else:
            assert decoder.decode(encoder.other(literals([(b"grpc-status", b"5")]))) == [("grpc-status", "5")]
        if encoder.is_settled:
            assert decoder.decode(encoder.head_block) == head
            assert decoder.decode(encoder.tail_block) == [("grpc-status", "0")]
