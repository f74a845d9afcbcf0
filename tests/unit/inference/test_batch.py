from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.errors import SignatureMismatch
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.batch import chunks, join, split, stack
from maas_gateway.inference.compatibility import check_rows, has_rows, key_of
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

A, B = TenantId(UUID(int=1)), TenantId(UUID(int=2))
DTYPES = st.sampled_from(["f4", "f8", "i4", "i8", "u1", "?"])
TRAILING = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def request_of(*arrays: np.ndarray) -> InferenceRequest:
    return InferenceRequest(tuple(Tensor.of(f"x{at}", array) for at, array in enumerate(arrays)), len(arrays[0]))


def counting(shape: tuple[int, ...], dtype: str, start: int = 0) -> np.ndarray:
    return (np.arange(int(np.prod(shape))).reshape(shape) + start).astype(dtype)


@given(
    n_rows=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    columns=st.lists(st.tuples(TRAILING, DTYPES), min_size=1, max_size=3),
)
def test_split_undoes_stack(n_rows: list[int], columns: list[tuple[tuple[int, ...], str]]) -> None:
    requests = [
        request_of(*[counting((count, *trailing), dtype, start=100 * at) for trailing, dtype in columns])
        for at, count in enumerate(n_rows)
    ]
    stacked = stack(requests)
    assert [array.shape for array in stacked] == [(sum(n_rows), *trailing) for trailing, _ in columns]
    parts = split(stacked, n_rows)
    assert len(parts) == len(requests)
    for request, part in zip(requests, parts, strict=True):
        for tensor, array in zip(request.inputs, part, strict=True):
            assert array.dtype == tensor.array.dtype
            assert array.flags.c_contiguous
            np.testing.assert_array_equal(array, tensor.array)


@given(n_rows=st.integers(1, 40), max_rows=st.integers(1, 12), trailing=TRAILING, dtype=DTYPES)
def test_join_undoes_chunks_and_none_is_too_large(
    n_rows: int, max_rows: int, trailing: tuple[int, ...], dtype: str
) -> None:
    whole = counting((n_rows, *trailing), dtype)
    pieces = list(chunks((whole,), max_rows))
    assert all(1 <= len(piece[0]) <= max_rows for piece in pieces)
    assert len(pieces) == -(-n_rows // max_rows)
    (joined,) = join(pieces)
    assert joined.dtype == whole.dtype
    np.testing.assert_array_equal(joined, whole)


def test_stack_does_not_copy_a_single_request() -> None:
    array = counting((3, 2), "f4")
    assert stack([request_of(array)])[0] is array


@pytest.mark.parametrize("shape", [(), (4, 2), (6, 2), (1, 5, 2)], ids=["scalar", "too few", "too many", "moved"])
def test_split_refuses_outputs_whose_rows_cannot_be_told_apart(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="5 rows went in"):
        split((counting((5, 2), "f4"), np.zeros(shape)), [2, 3])


def test_key_is_equal_only_for_one_tenant_and_one_form() -> None:
    base = key_of(request_of(counting((2, 3), "f4")), A)
    assert base == key_of(request_of(counting((7, 3), "f4", start=5)), A)
    assert hash(base) == hash(key_of(request_of(counting((7, 3), "f4")), TenantId(UUID(int=1))))
    others = [
        key_of(request_of(counting((2, 3), "f4")), B),
        key_of(request_of(counting((2, 4), "f4")), A),
        key_of(request_of(counting((2, 3, 1), "f4")), A),
        key_of(request_of(counting((2, 3), "f8")), A),
        key_of(request_of(counting((2, 3), "f4"), counting((2, 3), "f4")), A),
    ]
    assert base not in others
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ([(-1, 3)], [(-1,)], True),
        ([(-1, 3), (-1,)], [(-1, 2), (-1,)], True),
        ([(2, 3)], [(-1, 3)], False),
        ([(-1, 3), (4,)], [(-1,)], False),
        ([(-1, 3)], [(3,)], False),
        ([(-1, 3)], [()], False),
        ([(-1, 3)], [], False),
        ([], [(-1,)], False),
    ],
)
def test_rows_are_told_apart_only_if_all_tensors_have_a_free_first_dimension(
    inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], *, expected: bool
) -> None:
    def specs(shapes: list[tuple[int, ...]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(str(at), Datatype.FP32, shape) for at, shape in enumerate(shapes))

    assert has_rows(ModelSignature(specs(inputs), specs(outputs))) is expected


def test_request_that_claims_other_rows_than_it_has_is_refused() -> None:
    two, three = counting((2, 3), "f4"), counting((3, 3), "f4")
    check_rows(request_of(two, two))
    for arrays in ((two, three), (two, np.float32(1).reshape(()))):
        with pytest.raises(SignatureMismatch, match="expected 2 rows"):
            check_rows(request_of(*arrays))
