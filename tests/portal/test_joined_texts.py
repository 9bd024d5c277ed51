"""What is drawn as one text escapes every text in it, and says what the template said."""

from django.template import Context, Template

from billing_portal.portal.call_list import Row
from billing_portal.portal.templatetags.call_rows import call_rows
from billing_portal.portal.templatetags.options import options

EVIL = """<i a='b' c="d">&"""
SAFE = "&lt;i a=&#x27;b&#x27; c=&quot;d&quot;&gt;&amp;"
PLAIN = Row(
    url="/calls/a%20b/",
    started="Nov 21, 2026, 14:05",
    call_id="call_1",
    agent="Receptionist",
    status="Ended",
    tone="good",
    duration="1 m 37 s",
    cost="$0.15215",
    state="",
    is_new=False,
    mark="",
)


def test_every_text_of_a_call_is_escaped() -> None:
    texts = {name: EVIL for name, value in PLAIN._asdict().items() if isinstance(value, str)}
    drawn = call_rows([PLAIN._replace(**texts, is_new=True)])
    assert EVIL not in drawn
    assert "<i" not in drawn
    assert drawn.count(SAFE) == len(texts)


def test_a_row_leads_to_its_call_and_names_its_cells() -> None:
    drawn = call_rows([PLAIN])
    assert '<a class="row-link-target" href="/calls/a%20b/">Nov 21, 2026, 14:05</a>' in drawn
    assert '<td data-label="Cost" class="num">$0.15215</td>' in drawn
    assert '<span class="badge tone-good">Ended</span></td>' in drawn
    assert "is-new" not in drawn
    assert "autofocus" not in drawn


def test_what_is_special_about_a_call_is_said() -> None:
    marked = call_rows([PLAIN._replace(mark="Revision 2", state="$0.10 given back", is_new=True), PLAIN])
    assert '<span class="cell-sub">Revision 2</span>' in marked
    assert '$0.15215<span class="cell-sub">$0.10 given back</span>' in marked
    assert marked.count("autofocus") == marked.count("badge tone-info") == 1
    assert "Not priced yet" in call_rows([PLAIN._replace(cost="")])
    assert "autofocus" not in call_rows([PLAIN, PLAIN._replace(is_new=True)])


def test_options_are_escaped_and_one_is_selected() -> None:
    drawn = options([(EVIL, EVIL), ("b", "B")], EVIL)
    assert drawn == f'<option value="{SAFE}" selected>{SAFE}</option><option value="b">B</option>'


def test_a_template_does_not_escape_them_again() -> None:
    template = Template("{% load call_rows options %}{% call_rows calls %}{% options offered 'b' %}")
    drawn = template.render(Context({"calls": [PLAIN], "offered": [("b", "B & C")]}))
    assert "<tr class=" in drawn
    assert '<option value="b" selected>B &amp; C</option>' in drawn
