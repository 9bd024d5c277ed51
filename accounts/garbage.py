"""How often a long-lived process looks for garbage."""

import gc


def look_less_often() -> None:
    """Leave out what is loaded by now, and look for circles a hundred times less often; call it once all is loaded.

    What a process has loaded stays, so it need not be searched again and again; and who records or settles a thousand
    calls makes tens of thousands of objects and few circles: up to half of its time went into looking for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
