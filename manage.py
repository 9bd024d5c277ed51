#!/usr/bin/env python
"""Run a command of the portal, or the Stripe sandbox, which shares nothing with it but HTTP."""

import os
import runpy
import sys


def main() -> None:
    """Dispatch `sandbox` to its own program, everything else to Django.

    The sandbox must neither wait for Django (it boots in seconds) nor be able to reach the portal's models.
    """
    if sys.argv[1:2] == ["sandbox"]:
        sys.argv = ["manage.py sandbox", *sys.argv[2:]]
        runpy.run_module("billing_portal.sandbox", run_name="__main__")
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_portal.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - settings come first

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
