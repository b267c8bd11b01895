import gc

import pytest

from lightning_dws.startup import importing


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_while_modules_are_imported(enabled):
    try:
        (gc.enable if enabled else gc.disable)()
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
