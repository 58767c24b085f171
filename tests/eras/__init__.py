import pytest

pytest.register_assert_rewrite("tests.eras.matrix", "tests.eras.callers")
