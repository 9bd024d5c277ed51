"""How pages are looked at: wide and narrow, light and dark. Two of the four in `make test`, all in `make test-long`."""

import pytest

of_page = pytest.mark.parametrize(
    ("width", "theme"),
    [
        (1360, "light"),
        (400, "dark"),
        pytest.param(1360, "dark", marks=pytest.mark.long),
        pytest.param(400, "light", marks=pytest.mark.long),
    ],
)
