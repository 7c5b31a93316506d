"""Import the SDK in two thirds of its time.

A third of it goes into building validators for several hundred protocol models, of which a connection uses a few dozen.
pydantic can build them at first use instead (`defer_build`); models inherit the setting from their base, so it is set
on pydantic's own base while the SDK is imported. The collector is off meanwhile: everything imported stays.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported_lazily() -> Iterator[None]:
    """Within this block, models of imported modules build their validators at first use. One thread at a time, while no other
    imports what builds on pydantic: whoever imports the SDK holds the engine's lock, or is alone yet.
    """
    collecting = gc.isenabled()
    gc.disable()
    from pydantic import BaseModel, ConfigDict

    before = BaseModel.model_config
    BaseModel.model_config = ConfigDict(defer_build=True)
    try:
        yield
    finally:
        BaseModel.model_config = before
        gc.freeze()
        if collecting:
            gc.enable()
