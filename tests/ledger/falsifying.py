"""Falsify rows behind the database's back, hear what the proof says of it, and undo it."""

import re

from django.db import connection, transaction

from billing_portal.ledger import verification


def differences(organization, statement, **span):
    """Return what the proof finds once `statement` has changed rows that no trigger kept; then they are as before."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what is deferred is judged before anything is falsified
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement)
        assert cursor.rowcount, statement
        found = list(verification.verify(organization.pk, **span))
        transaction.set_rollback(True)
    return found


def said(found, law):
    """Return what was said of a law: of what, without its numbers, and by how much it was wrong; in order."""
    return sorted((re.sub(r"\d+", "#", each.subject), each.found - each.expected) for each in found if each.law == law)


def assert_named(organization, falsifications):
    """Assert that each law, given with the statements that break it, is named with what is to be said of it."""
    found = {}
    for law, broken in falsifications.items():
        for statement, expected in broken:
            if statement not in found:
                found[statement] = differences(organization, statement)
            assert said(found[statement], law) == expected != [], (law, statement)
