"""Keys and records: what names a vector, and what tells that it is whole."""

import numpy as np
import pytest

from embedder_cache import CacheRequestError, SpaceKey, domain_id, space_key
from embedder_cache.checksum import checksums
from embedder_cache.key import KEY_BYTES, key_list, pack_keys
from embedder_cache.record import RecordLayout, is_written, record_dims, record_times

LAYOUT = RecordLayout(20)


def make_records(count: int, *, layout: RecordLayout = LAYOUT) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random keys, vectors, and their sealed records."""
    random = np.random.default_rng(7)
    keys = random.integers(0, 256, (count, KEY_BYTES), dtype=np.uint8)
    vectors = random.standard_normal((count, layout.dim)).astype(np.float16)
    return keys, vectors, layout.seal(keys, vectors, 1_700_000_000)


def test_a_space_key_differs_by_tenant_and_by_space() -> None:
    keys = {space_key(secret, digest * 32, 8).prefix for secret in (b"a", b"b") for digest in (b"\0", b"\1")}
    assert len(keys) == 4
    assert space_key(b"a", bytes(32), 8) == space_key(b"a", bytes(32), 8)


def test_a_domain_id_says_nothing_of_a_space() -> None:
    assert domain_id(b"a") != domain_id(b"b")
    assert domain_id(b"a") != space_key(b"a", bytes(32), 8).prefix


@pytest.mark.parametrize(
    ("secret", "digest", "dim", "message"),
    [
        (b"", bytes(32), 8, "secret is empty"),
        (b"a", bytes(31), 8, "31 bytes"),
        (b"a", bytes(32), 0, "dim=0"),
        (b"a", bytes(32), 65_536, "dim=65536"),
    ],
)
def test_wrong_parts_of_a_space_key_are_refused(secret: bytes, digest: bytes, dim: int, message: str) -> None:
    with pytest.raises(CacheRequestError, match=message):
        space_key(secret, digest, dim)


def test_a_prefix_has_16_bytes() -> None:
    with pytest.raises(CacheRequestError, match="17 bytes"):
        SpaceKey(bytes(17), 8)


def test_packed_keys_are_prefix_and_hash_even_where_they_end_in_zeros() -> None:
    hashes = bytes(32) + b"\1" + bytes(31)
    assert key_list(pack_keys(b"p" * 16, hashes)) == [b"p" * 16 + hashes[:32], b"p" * 16 + hashes[32:]]


def test_a_sealed_record_gives_its_vector_time_and_dim_back() -> None:
    keys, vectors, records = make_records(5)
    assert LAYOUT.check(records, keys).all()
    assert np.array_equal(LAYOUT.vectors(records), vectors)
    assert (record_times(records) == 1_700_000_000).all()
    assert (record_dims(records) == 20).all()
    assert is_written(records).all()


def test_every_single_flipped_bit_of_a_record_is_detected() -> None:
    keys, _, records = make_records(1)
    bits = 8 * LAYOUT.record_bytes
    flipped = np.repeat(records, bits, axis=0)
    flipped[np.arange(bits), np.arange(bits) // 8] ^= (1 << (np.arange(bits) % 8)).astype(np.uint8)
    assert not LAYOUT.check(flipped, np.repeat(keys, bits, axis=0)).any()


def test_pairs_of_flipped_sign_bits_are_detected() -> None:
    keys, _, records = make_records(1, layout=RecordLayout(384))
    signs = [64 + 2 * component + 1 for component in range(384)]
    pairs = [(first, second) for first in signs[::5] for second in signs[1::5]]
    flipped = np.repeat(records, len(pairs), axis=0)
    for row, (first, second) in enumerate(pairs):
        flipped[row, first] ^= 0x80
        flipped[row, second] ^= 0x80
    assert not RecordLayout(384).check(flipped, np.repeat(keys, len(pairs), axis=0)).any()


def test_a_record_answers_no_other_key_and_no_other_dim() -> None:
    keys, _, records = make_records(2)
    assert not LAYOUT.check(records, keys[::-1].copy()).any()
    assert not RecordLayout(21).check(records, keys).any()  # the same number of blocks


def test_swapped_words_are_detected() -> None:
    keys, _, records = make_records(1)
    swapped = records.copy()
    swapped[0, 64:68], swapped[0, 68:72] = records[0, 68:72], records[0, 64:68]
    assert not LAYOUT.check(swapped, keys).any()


def test_an_erased_record_is_neither_valid_nor_written() -> None:
    keys, _, records = make_records(1)
    zeros = np.zeros_like(records)
    assert not LAYOUT.check(zeros, keys).any()
    assert not is_written(zeros).any()


def test_checksums_are_the_same_on_every_machine() -> None:
    records = np.arange(2 * 128, dtype=np.uint8).reshape(2, 128)
    assert [hex(value) for value in checksums(records, hole=slice(56, 64))] == [
        "0x4d29c08795246724",
        "0x8773864deab0f224",
    ]
