"""The results board as staff see it, and as a file."""

import csv
import io

from billing_portal.billing import results


def test_the_board_shows_each_figure_with_its_definition_and_as_csv(desk, furnished):
    page = desk.get("/staff/results/").content.decode()
    for figure in results.FIGURES:
        assert figure.definition in page.replace("&#x27;", "'")
    answer = desk.get("/staff/results/?format=csv&currency=nonsense")
    lines = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert len(lines) == 12 * len(results.FIGURES)
    assert {line["unit"] for line in lines} == {"percent", "minor", "days"}


def test_nobody_else_opens_it(client, alice):
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/staff/results/").status_code == 302
