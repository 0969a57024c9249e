"""Arguments and results as JSON: what goes in comes out, and what is no data is refused."""

import datetime
import decimal
import json
import math
import pathlib
import uuid
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.api.values import CannotTravel, dumps, loads

_FLAT = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.complex_numbers(allow_nan=False)
)
_KEYS = st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.tuples(st.integers(), st.booleans())
_VALUES = st.recursive(
    _FLAT,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(_KEYS, inner) | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = loads(dumps(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, bytearray(b"\x00\xff"), range(3, 9, 2), pathlib.Path("a/b"), {"!": 1}, {"!": "array", "v": "x"},
        math.inf, -math.inf, Fraction(1, 3), decimal.Decimal("1.10"), uuid.UUID(int=5), {None: 1}, {True: {(1,): []}},
    ],
)  # fmt: skip
def test_special_values_come_back(value: Any) -> None:
    assert loads(dumps(value)) == value


def test_nan_and_arrays_come_back() -> None:
    assert math.isnan(loads(dumps(float("nan"))))
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    back = loads(dumps(array))
    assert (back == array).all()
    assert back.dtype == array.dtype
    assert loads(dumps(np.float32(1.5))) == np.float32(1.5)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "builtins.object"),
        ({"a": [1, lambda: 0]}, r"\['a'\]\[1\]"),
        (np.array([object()]), "ndarray"),
        (type("Own", (dict,), {})(), "Own"),
        (ValueError("x"), "ValueError"),
    ],
)
def test_what_is_no_data_is_refused_by_its_place(value: Any, says: str) -> None:
    with pytest.raises(CannotTravel, match=says):
        dumps(value)


@pytest.mark.parametrize("text", ['{"!":"os.system","v":"id"}', '{"!":"array"}', "{", '{"!":"datetime","v":"x"}'])
def test_reading_never_does_more_than_reading(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        loads(text)
    assert "id" not in str(caught.value) or isinstance(caught.value, json.JSONDecodeError | ValueError)


def test_an_array_of_objects_is_not_unpickled() -> None:
    import base64
    import io

    held = io.BytesIO()
    np.save(held, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    evil = json.dumps({"!": "array", "v": base64.b64encode(held.getvalue()).decode()})
    with pytest.raises(ValueError, match="allow_pickle"):
        loads(evil)
