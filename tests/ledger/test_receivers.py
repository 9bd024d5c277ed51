import pytest

from billing_portal.ledger import receivers, tasks


@pytest.mark.parametrize(("organization_ids", "asked"), [([], []), ([1, 2, 3], [1, 2, 3]), ([1, 2, 3, 4], ["all"])])
def test_a_few_are_settled_each_and_many_together(organization_ids, asked, monkeypatch):
    heard = []
    monkeypatch.setattr(tasks, "ask_to_settle", heard.append)
    monkeypatch.setattr(tasks, "ask_to_settle_all", lambda: heard.append("all"))
    receivers.settle_what_waits(sender=None, organization_ids=iter(organization_ids))
    assert heard == asked
