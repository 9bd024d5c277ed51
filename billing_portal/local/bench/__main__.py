"""Measure one subject in the world that the environment names; `manage.py bench` makes that world."""

import argparse
import sys
from importlib import import_module

import django

from billing_portal.local import bench


def main() -> None:
    subject = sys.argv[1]
    module = import_module(f"{bench.__name__}.{subject}")
    parser = argparse.ArgumentParser(prog=f"manage.py bench {subject}", description=module.__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    if hasattr(module, "add_arguments"):
        module.add_arguments(parser)
    options = parser.parse_args(sys.argv[2:])
    missed = 0
    for figure in module.measure(options):
        missed += figure.holds is False
        sys.stdout.write(f"{figure.as_json() if options.json else figure.as_text()}\n")
        sys.stdout.flush()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    django.setup()
    main()
