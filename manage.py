#!/usr/bin/env python
"""Run a command of the portal; or the Stripe sandbox, the demo and the benchmarks, which are programs of their own."""

import os
import runpy
import sys

PROGRAMS = {
    "sandbox": "billing_portal.sandbox",
    "demo": "billing_portal.local.demo",
    "bench": "billing_portal.local.benchmark",
}


def main() -> None:
    """Dispatch `sandbox`, `demo` and `bench` to their programs, everything else to Django.

    The sandbox must not be able to reach the portal's models; the demo and the benchmarks start other processes and say
    first which servers they use. None has to wait for Django, which boots in seconds.
    """
    if program := PROGRAMS.get(" ".join(sys.argv[1:2])):
        sys.argv = [f"manage.py {sys.argv[1]}", *sys.argv[2:]]
        runpy.run_module(program, run_name="__main__")
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_portal.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - settings come first

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
