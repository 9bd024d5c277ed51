"""The PDF writer makes files that a strict reader accepts."""

import re

from billing_portal.sandbox.browser import invoice_pdf, pdf

INVOICE = {
    "id": "in_1",
    "number": "ACME-0001",
    "status": "open",
    "currency": "eur",
    "created": 1_790_000_000,
    "customer_name": "Müller & Söhne (Köln)",
}


def line(description, amount, quantity=None):
    period = {"start": 1_787_000_000, "end": 1_789_000_000}
    return {"description": description, "amount": amount, "currency": "eur", "quantity": quantity, "period": period}


def objects(content):
    """Read the objects through the table at the end, as a reader does."""
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF", content)[1])
    assert content[start : start + 4] == b"xref"
    positions = re.findall(rb"(\d{10}) 00000 n ", content[start:])
    return [content[int(each) :].split(b"endobj")[0] for each in positions]


def test_every_object_stands_where_the_table_says():
    paper = pdf.Document()
    paper.text(50, 50, "Hello (world) \\")
    paper.new_page()
    content = paper.build(title="Two pages")
    for number, each in enumerate(objects(content), start=1):
        assert each.startswith(b"%d 0 obj" % number)
    assert b"/Count 2" in content


def test_streams_are_as_long_as_they_say():
    content = invoice_pdf.build(INVOICE, [line("Calls", 120)], [("Total", 120)], merchant="Acme")
    for stated, stream in re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", content, re.DOTALL):
        assert int(stated) == len(stream)


def test_text_outside_ascii_is_kept_and_brackets_are_escaped():
    content = invoice_pdf.build(INVOICE, [line("Größe • 5 €", 120)], [("Total", 120)], merchant="Acme")
    assert "Müller & Söhne \\(Köln\\)".encode("cp1252") in content
    assert "Größe • 5 €".encode("cp1252") in content


def test_characters_no_standard_font_has_do_not_break_the_file():
    content = invoice_pdf.build(INVOICE, [line("漢字", 120)], [("Total", 120)], merchant="Acme")
    assert b"(??)" in content


def test_many_lines_run_over_pages():
    lines = [line(f"Line {number}", number) for number in range(250)]
    content = invoice_pdf.build(INVOICE, lines, [("Total", 31_125)], merchant="Acme")
    assert int(re.search(rb"/Count (\d+)", content)[1]) > 5
    assert b"(Line 249)" in content


def test_right_aligned_text_ends_where_asked():
    assert pdf.text_width("1,234.56", 10) == (6 * 556 + 2 * 278) / 100
