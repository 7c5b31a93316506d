"""Failures inside the shared suite show what was compared."""

import pytest

pytest.register_assert_rewrite("log_contract")
